from __future__ import annotations

import re

import pytest

from service.command_line import UnknownArguments, parse
from service.settings import Settings


def test_without_arguments_there_is_nothing_to_do() -> None:
    parse([])


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_help_lists_every_setting_with_its_default_and_its_description(
    argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([argument])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    for name, field in Settings.model_fields.items():
        assert re.search(rf"VAE_{name.upper()}(=\S*| \(unset\)) {re.escape(field.description or '')}", words)
    assert "VAE_PORT=8000" in printed
    assert "VAE_API_KEYS_FILE (unset)" in printed
    assert all(len(line) <= 100 for line in printed.splitlines() if not line.startswith(("settings", "exit")))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"vae-service \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["--port", "9000"], "There is no argument --port: settings are environment variables, so set VAE_PORT=9000."),
        (["--models-dir=/m"], "so set VAE_MODELS_DIR=/m."),
        (["--tracing", "--port", "1"], "so set VAE_TRACING."),
        (["--reload"], "There is no argument --reload: settings are environment variables, and --help lists them."),
        (["serve"], "There is no argument serve: "),
        (["port"], "There is no argument port: settings are environment variables, and --help lists them."),
        (["--vers"], "There is no argument --vers: "),
    ],
)
def test_other_arguments_are_refused_and_the_variable_to_set_is_named(arguments: list[str], advice: str) -> None:
    with pytest.raises(UnknownArguments, match=re.escape(advice)):
        parse(arguments)
