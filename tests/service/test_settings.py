from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.settings import InvalidSettings, Settings, read_settings, unknown_variables


def test_every_setting_says_what_it_is_for() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_come_from_the_environment_and_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAE_PORT", "9000")
    monkeypatch.setenv("VAE_MODELS_DIR", "/models")
    settings = Settings()
    assert settings.port == 9000
    assert str(settings.models_dir) == "/models"
    with pytest.raises(ValidationError):
        settings.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "http"), ("PORT", "70000"), ("PROVIDER", "tpu"), ("THREADS", "-1"), ("MAX_BATCH", "0")]
)
def test_invalid_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"VAE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "http", "VAE_PORT=http: Input should be a valid integer, unable to parse string as an integer."),
        ("PORT", "65536", "VAE_PORT=65536: Input should be less than or equal to 65535."),
        ("PORT", "", "VAE_PORT is set but empty: give it a value, or leave it unset for 8000."),
        ("HOST", " ", "VAE_HOST is set but empty: give it a value, or leave it unset for 127.0.0.1."),
        ("MODELS_DIR", "", "VAE_MODELS_DIR is set but empty: give it a value, or leave it unset for models."),
        ("API_KEYS_FILE", "", "VAE_API_KEYS_FILE is set but empty: give it a value, or leave it unset."),
        ("WATCH_SECONDS", "inf", "VAE_WATCH_SECONDS=inf: Input should be a finite number."),
        ("TRACING", "maybe", "VAE_TRACING=maybe: Input should be true or false."),
        ("PROVIDER", "tpu", "VAE_PROVIDER=tpu: Input should be 'auto', 'cpu' or 'cuda'."),
        ("LOG_LEVEL", "loud", "VAE_LOG_LEVEL=loud: Input should be 'debug', 'info', 'warning' or 'error'."),
        (
            "CORS_ORIGINS",
            "https://good.example,https://bad.example/",
            "VAE_CORS_ORIGINS=https://good.example,https://bad.example/: an origin is scheme://host or "
            "scheme://host:port as browsers send it, with no path and without the scheme's usual port, or it is *; "
            "https://bad.example/ is none.",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence_with_the_variable_its_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(f"VAE_{name}", value)
    with pytest.raises(InvalidSettings) as invalid:
        read_settings()
    assert invalid.value.problems == (sentence,)


def test_everything_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PORT", "QUEUE", "LOG_FORMAT"):
        monkeypatch.setenv(f"VAE_{name}", "x" * 1000)
    with pytest.raises(InvalidSettings) as invalid:
        read_settings()
    assert [problem.partition("=")[0] for problem in invalid.value.problems] == [
        "VAE_PORT",
        "VAE_QUEUE",
        "VAE_LOG_FORMAT",
    ]
    assert all(len(problem) < 300 for problem in invalid.value.problems)


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("LOG_LEVEL", "INFO", "info"),
        ("LOG_LEVEL", "Warning", "warning"),
        ("LOG_LEVEL", "WARN", "warning"),
        ("LOG_FORMAT", "Json", "json"),
        ("PROVIDER", "Cuda", "cuda"),
        ("TRACING", "True", True),
        ("MODELS", " one , two@2 ,", ("one", "two@2")),
        ("MODELS", "", ()),
        ("CORS_ORIGINS", "*", ("*",)),
        (
            "CORS_ORIGINS",
            "https://Here.Example, http://localhost:3000",
            ("https://here.example", "http://localhost:3000"),
        ),
    ],
)
def test_what_people_type_is_understood(monkeypatch: pytest.MonkeyPatch, name: str, value: str, meant: object) -> None:
    monkeypatch.setenv(f"VAE_{name}", value)
    assert getattr(read_settings(), name.lower()) == meant


@pytest.mark.parametrize(
    "origin",
    ["https://a.example", "http://127.0.0.1:3000", "http://[::1]:3000", "https://a.example:8443", "app://local"],
)
def test_origins_as_browsers_send_them(origin: str) -> None:
    assert Settings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin",
    [
        "a.example",
        "https://",
        "https://a.example/",
        "https://a.example/path",
        "https://a.example?x",
        "https://user@a.example",
        "https://*.example",
        "https://a b",
        "https://a.example:port",
        "https://a.example:443",
        "http://a.example:80",
        "null",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings(cors_origins=(origin,))


def test_variables_that_are_no_settings_are_found() -> None:
    environment = {"VAE_PORT": "1", "VAE_MAX_BACH": "7", "_VAE_OTHER": "", "PATH": ""}
    assert unknown_variables(environment) == ["VAE_MAX_BACH"]
