"""What the service uses of other libraries beyond their public names is listed in docs/architecture.md, and bounded."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import uvicorn
from packaging.requirements import Requirement
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from harness.paths import ROOT

SERVICE = ROOT / "service"

# Modules that their makers do not document, so every name in them is internal.
UNDOCUMENTED = ("uvicorn.protocols", "uvicorn.supervisors", "uvicorn.config")

# Documented, although it begins with an underscore.
PUBLIC = {"_exit"}

# Classes of uvicorn that the service derives from.
BASES = {
    "HttpToolsProtocol": HttpToolsProtocol,
    "uvicorn.Server": uvicorn.Server,
    "Multiprocess": Multiprocess,
    "Process": Process,
}

# Classes of the service that uvicorn takes for its own.
STAND_INS = {"FastPathRequest": RequestResponseCycle}


def listed() -> dict[str, str]:
    """The library of each internal name that the document lists."""
    document = (ROOT / "docs" / "architecture.md").read_text()
    table = document.split("<!-- internals -->")[1].split("<!-- /internals -->")[0]
    rows = [row.split("|")[1:3] for row in table.strip().splitlines()[2:]]
    return {name: library.strip() for library, names in rows for name in re.findall(r"`([^`]+)`", names)}


def internals_of(tree: ast.Module) -> Iterator[str]:
    """Every name in a module that another library does not promise to keep."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("service"):
            private = any(part.startswith("_") and not part.startswith("__") for part in node.module.split("."))
            undocumented = node.module.startswith(UNDOCUMENTED)
            yield from (each.name for each in node.names if private or undocumented or each.name.startswith("_"))
        elif isinstance(node, ast.Attribute) and node.attr.startswith(("_", "__pydantic")):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            if not own and not (node.attr.startswith("__") and not node.attr.startswith("__pydantic")):
                yield node.attr
        elif isinstance(node, ast.ClassDef):
            yield from inherited(node)
            if node.name in STAND_INS:
                yield from names_used(node) & attributes_of(STAND_INS[node.name])


def inherited(derived: ast.ClassDef) -> Iterator[str]:
    """Every name of a base class of uvicorn that a derived class defines anew or uses."""
    for name in map(ast.unparse, derived.bases):
        if name in BASES:
            yield from names_used(derived) & attributes_of(BASES[name])


def names_used(definition: ast.ClassDef) -> set[str]:
    """Every method that a class defines, and every attribute of itself that it uses."""
    own = {node.name for node in definition.body if isinstance(node, ast.FunctionDef)}
    return own | {
        node.attr
        for node in ast.walk(definition)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }


def attributes_of(base: type) -> set[str]:
    """Every attribute that a class or its `__init__` has, by its source."""
    assigned = re.findall(r"self\.(\w+)(?:: [^=\n]+)? = ", inspect.getsource(base))
    return set(assigned) | {name for name in vars(base) if not name.startswith("__")}


def found() -> set[str]:
    """Every internal name that the service uses; names of its own modules are its own."""
    own: set[str] = set()
    used: set[str] = set()
    for path in SERVICE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        used |= set(internals_of(tree))
    return used - PUBLIC - {name for name in own if name.startswith("_")}


def test_each_internal_name_that_is_used_is_listed_and_none_else_is() -> None:
    assert found() == set(listed())


@pytest.mark.parametrize("library", sorted(set(listed().values())))
def test_each_library_whose_internals_are_used_is_bounded_by_version(library: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (bound,) = [each for each in map(Requirement, project["dependencies"]) if each.name == library]
    assert any(each.operator == "<" for each in bound.specifier), f"{bound} has no upper bound"
    assert version(library) in bound.specifier
