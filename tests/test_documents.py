"""The documents name files, tests, settings, commands and metrics; all of them exist."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.paths import ROOT
from service.settings import Settings
from service.telemetry.families import FAMILIES

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "bench" / "README.md",
    ROOT / "client" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]

# Where a path in a document may begin, and first parts of what only looks like one.
ROOMS = [ROOT, *(ROOT / room for room in ("service", "service/inference", "training", "tests", "client"))]

OTHERS = {"dist", "runs", "onnx", "image", "application", "photos", "reconstructions"}

CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def test_names() -> dict[str, set[str]]:
    """Every test function and class, by the name of its file."""
    names: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        nodes = ast.walk(ast.parse(path.read_text()))
        found = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        names.setdefault(path.name, set()).update(found)
    return names


TESTS = test_names()
test_names.__test__ = False  # type: ignore[attr-defined]  # it is no test itself

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code_of(document: Path) -> str:
    """Everything in a document that is set as code."""
    return "\n".join(CODE.findall(document.read_text()))


@documents
def test_each_link_leads_to_a_file(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


@documents
def test_each_heading_that_is_linked_exists(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", document.read_text()):
        if "://" not in target:
            text = (document.parent / target if target else document).read_text()
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in anchors


@documents
def test_each_file_exists(document: Path) -> None:
    paths = re.findall(r"(?<![\w/.*-])[a-z_]+(?:/[\w.-]+)*(?:/|\.py|\.toml|\.md|\.json)(?![\w/*])", code_of(document))
    local = {path for path in paths if "/" in path and path.split("/")[0] not in OTHERS and "NAME" not in path}
    missing = [path for path in sorted(local) if not any((room / path).exists() for room in ROOMS)]
    assert missing == []


@documents
def test_each_test_exists(document: Path) -> None:
    for file, name in re.findall(r"(test_\w+\.py)(?:::([\w.]+))?", code_of(document)):
        assert file in TESTS, file
        pattern = re.escape(name).replace(r"\.\.\.", ".*")
        assert not name or any(re.fullmatch(pattern, known) for known in TESTS[file]), f"{file}::{name}"


@documents
def test_each_setting_exists(document: Path) -> None:
    if document.name == "CHANGELOG.md":  # which names those that are gone, too
        return
    names = {name.lower() for name in re.findall(r"VAE_([A-Z0-9_]*[A-Z0-9])", document.read_text())}
    assert names <= Settings.model_fields.keys() | ({"url", "api_key"} if document.parent.name == "client" else set())


@documents
def test_each_command_exists(document: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    code = code_of(document)
    assert set(re.findall(r"(?:^|`|; |&& |\w=\S+ )make ([a-z-]+)", code, re.MULTILINE)) <= set(targets)
    modules = set(re.findall(r"python -m ([\w.]+)", code)) - {"pip", "venv"}
    assert [module for module in sorted(modules) if find_spec(module) is None] == []


@documents
def test_each_metric_exists(document: Path) -> None:
    suffix = r"(?:_total|_bucket|_count|_sum|_info)?"
    known = re.compile("|".join(f"{family.name}{suffix}" for family in FAMILIES) + "|vae_build_info|vae_client")
    names = set(re.findall(r"\bvae_[a-z_]+[a-z]", code_of(document)))
    assert [name for name in sorted(names) if not known.fullmatch(name)] == []


def test_the_index_lists_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w.-]+\.md)", (ROOT / "docs" / "README.md").read_text()))
    assert linked | {"README.md"} == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@documents
def test_each_reason_for_which_a_block_is_not_run_names_what_exists(document: Path) -> None:
    for reason in re.findall(r"^<!-- not run: (.+) -->$", document.read_text(), re.MULTILINE):
        assert {name for name in re.findall(r"test_\w+\.py", reason) if name not in TESTS} == set()
        assert [path for path in re.findall(r"tests/\w+", reason) if not (ROOT / path).is_dir()] == []
