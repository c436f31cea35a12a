"""The command line of `python -m service`: --help and --version. Settings are environment variables."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from importlib.metadata import version

from service.settings import Settings, default_text, variable

_DESCRIPTION = (
    "Serve the models of a folder over HTTP until SIGTERM or SIGINT: POST /encode, /reconstruct, /sample, /decode, "
    "/interpolate, /traverse. The documentation of the API is at /docs."
)
_SETTINGS = "settings are environment variables, as in VAE_PORT=9000 python -m service; with their defaults:"
_EXIT_STATUS = "exit status: 0 after a signal, 1 if the service cannot start, 2 for unknown arguments."


class UnknownArguments(ValueError):
    """The command line has other arguments than --help or --version. `str(error)` is one sentence."""


def parse(arguments: Sequence[str]) -> None:
    """Print what --help or --version asks for, and exit with status 0. Raises UnknownArguments."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description=textwrap.fill(_DESCRIPTION, 100),
        epilog=f"{_SETTINGS}\n{settings_help()}\n\n{_EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"vae-service {version('vae-service')}")
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise UnknownArguments(_refusal(unknown))


def settings_help() -> str:
    """Every setting with its default and its description, for a terminal."""
    entries = []
    for name, field in Settings.model_fields.items():
        default = default_text(name)
        entries.append(f"  {variable(name)}{' (unset)' if default is None else f'={default}'}")
        entries.append(textwrap.fill(field.description or "", 100, initial_indent=" " * 6, subsequent_indent=" " * 6))
    return "\n".join(entries)


def _refusal(unknown: Sequence[str]) -> str:
    """A sentence about the first unknown argument. If there is a setting of that name, it says what to set."""
    option, _, value = unknown[0].partition("=")
    name = option.lstrip("-").replace("-", "_").lower()
    if not option.startswith("--") or name not in Settings.model_fields:
        return f"There is no argument {unknown[0]}: settings are environment variables, and --help lists them."
    if not value and len(unknown) > 1 and not unknown[1].startswith("-"):
        value = unknown[1]
    example = f"{variable(name)}={value}" if value else variable(name)
    return f"There is no argument {option}: settings are environment variables, so set {example}."
