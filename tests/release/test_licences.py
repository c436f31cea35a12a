from __future__ import annotations

from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from release import licences
from release.licences import Package


def of(folder: Path, *fields: str) -> Package:
    """A package whose metadata have these fields."""
    place = folder / "some_package-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("\n".join(["Metadata-Version: 2.4", "Name: Some_Package", "Version: 1.0", *fields]))
    return licences.read(Distribution.at(place))


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        (["License-Expression: MIT"], "MIT"),
        (["License-Expression: MIT", "License: something else"], "MIT"),
        (["License: MIT License"], "MIT"),
        (["License: Apache 2.0"], "Apache-2.0"),
        (["License: BSD-3-Clause", "Classifier: License :: OSI Approved :: BSD License"], "BSD-3-Clause"),
        (["License: Copyright (c) 2015", "Classifier: License :: OSI Approved :: BSD License"], "BSD"),
        (["Classifier: License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"], "MPL-2.0"),
    ],
)
def test_a_licence_is_read_from_whatever_field_says_it(tmp_path: Path, fields: list[str], licence: str) -> None:
    package = of(tmp_path, *fields)
    assert package == Package("some-package", "1.0", licence)
    assert package.allowed


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["License: UNKNOWN"],
        ["License: ask my lawyer"],
        ["License-Expression: AGPL-3.0-or-later"],
        ["License-Expression: MIT AND LicenseRef-Proprietary"],
        ["License-Expression: GPL-3.0-only WITH Classpath-exception-2.0"],
    ],
)
def test_a_licence_that_is_unknown_or_not_allowed_is_refused(tmp_path: Path, fields: list[str]) -> None:
    assert not of(tmp_path, *fields).allowed


def test_every_licence_of_an_expression_counts() -> None:
    assert Package("orjson", "1", "MPL-2.0 AND (Apache-2.0 OR MIT)").allowed
    assert Package("torch", "1", "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSL-1.0").allowed
    assert not Package("other", "1", "MIT OR GPL-3.0-only").allowed


@pytest.mark.parametrize(
    "name", ["axe-playwright-python", "fastapi", "numpy", "onnxruntime", "orjson", "pillow", "pyspng", "uvloop"]
)
def test_the_licences_of_what_is_needed_are_known(name: str) -> None:
    assert licences.read(distribution(name)).allowed


def test_the_table_is_sorted_and_says_what_is_unknown() -> None:
    table = licences.table([Package("b", "2", None), Package("a", "1", "MIT")])
    assert table.splitlines()[2:] == ["| a | 1 | MIT |", "| b | 2 | unknown |"]
