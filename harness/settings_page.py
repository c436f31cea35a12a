"""The page of all settings, made from the settings class: `make docs` writes it to docs/settings.md.

python -m harness.settings_page > docs/settings.md
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin

from service.settings import Settings, default_text, variable

HEAD: Final = """\
# Settings

Settings are environment variables, read once at the start: `VAE_PORT=9000 make serve`. `python -m service --help` lists
them, too. A variable that begins with `VAE_` and is no setting is named in a warning.

`make docs` makes this page from `service/settings.py`; do not edit it. [operate.md](operate.md) says which to set.

| variable | value | default | |
|---|---|---|---|
"""

UNSET: Final = "*unset*"

_WORDS: Final[dict[Any, str]] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    Path: "path",
    tuple: "list, with commas",
}


def page() -> str:
    """The whole page, Markdown."""
    return HEAD + "".join(f"{row(name)}\n" for name in Settings.model_fields)


def row(name: str) -> str:
    """The row of one setting: its variable, its values, its default as it can be typed, its description."""
    default = default_text(name)
    cells = (f"`{variable(name)}`", values(name), UNSET if default is None else default)
    return " ".join(f"| {' | '.join(cells)} | {Settings.model_fields[name].description} |".split())


def values(name: str) -> str:
    """What a setting can be: its type in words, and its range."""
    field = Settings.model_fields[name]
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is Literal:
        *others, last = get_args(kind)
        return f"{', '.join(others)} or {last}"
    bounds = {
        bound: getattr(each, bound) for each in field.metadata for bound in ("ge", "gt", "le") if hasattr(each, bound)
    }
    least, above, most = bounds.get("ge"), bounds.get("gt"), bounds.get("le")
    limits = [f"at least {least}"] if least is not None else [f"above {above}"] if above is not None else []
    if least is not None and most is not None:
        limits = [f"{least} to {most}"]
    return ", ".join([_WORDS[get_origin(kind) or kind], *limits])


if __name__ == "__main__":
    print(page(), end="")
