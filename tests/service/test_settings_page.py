from __future__ import annotations

import pytest

from harness.paths import ROOT
from harness.settings_page import UNSET, page
from service.settings import Settings, variable


def test_the_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page()


def test_each_setting_has_a_row_with_its_values_its_default_and_its_description() -> None:
    rows = page().partition("|---|---|---|---|\n")[2].splitlines()
    assert [row.split("|")[1].strip() for row in rows] == [f"`{variable(name)}`" for name in Settings.model_fields]
    port = "TCP port to listen on. 0: the system chooses one, and the log says which."
    assert rows[1] == f"| `VAE_PORT` | integer, 0 to 65535 | 8000 | {port} |"
    assert [row.split("|")[2].strip() for row in rows if "PROVIDER" in row or "WATCH" in row or "KEYS" in row] == [
        "number, above 0",
        "auto, cpu or cuda",
        "path",
    ]


def test_its_defaults_can_be_typed_as_they_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in page().partition("|---|---|---|---|\n")[2].splitlines():
        _, name, _, default, *_ = (cell.strip() for cell in row.split("|"))
        monkeypatch.delenv(name.strip("`"), raising=False)
        if default != UNSET:
            monkeypatch.setenv(name.strip("`"), default)
    typed = Settings()
    assert "host" in typed.model_fields_set
    assert typed == Settings.model_construct()
