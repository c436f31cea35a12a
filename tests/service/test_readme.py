from __future__ import annotations

import pytest

from harness.paths import ROOT
from service.settings import Settings, default_text, variable

UNSET = "*unset*"


def settings_table() -> list[str]:
    """The rows of the README's table of settings."""
    table = (ROOT / "README.md").read_text().split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    return table.strip().splitlines()[2:]


def default_cell(name: str) -> str:
    text = default_text(name)
    return UNSET if text is None else text


def test_the_readme_lists_every_setting_with_its_default_and_its_description() -> None:
    rows = [
        " ".join(f"| `{variable(name)}` | {default_cell(name)} | {field.description} |".split())
        for name, field in Settings.model_fields.items()
    ]
    assert settings_table() == rows


def test_the_readmes_defaults_can_be_typed_as_they_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in settings_table():
        _, name, default, *_ = (cell.strip() for cell in row.split("|"))
        monkeypatch.delenv(name.strip("`"), raising=False)
        if default != UNSET:
            monkeypatch.setenv(name.strip("`"), default)
    typed = Settings()
    assert "host" in typed.model_fields_set
    assert typed == Settings.model_construct()
