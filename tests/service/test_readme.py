from __future__ import annotations

from harness.paths import ROOT
from service.settings import Settings


def test_the_readme_lists_every_setting_with_its_default_and_its_description() -> None:
    rows = [
        f"| `VAE_{name.upper()}` | {field.default} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    table = (ROOT / "README.md").read_text().split("<!-- settings -->")[1].split("<!-- /settings -->")[0]
    assert table.strip().splitlines()[2:] == rows
