from __future__ import annotations

import pytest
from pydantic import ValidationError

from service.settings import Settings


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
def test_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"VAE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
