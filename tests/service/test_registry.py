from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import BundleRefused, Unknown
from service.registry import Registry, open_registry
from tests.bundles import seal, write_bundle


def opened(models: Path, default: str = "tiny") -> Registry:
    return open_registry(models, default=default, provider="cpu", threads=1, batch=8)


@pytest.mark.parametrize(
    ("reference", "found"),
    [(None, "tiny@2"), ("tiny", "tiny@2"), ("tiny@1", "tiny@1"), ("tiny@2", "tiny@2"), ("colour", "colour@1")],
)
def test_a_name_means_its_highest_version(tiny_models: Path, reference: str | None, found: str) -> None:
    assert opened(tiny_models).find(reference).autoencoder.contract.id == found


@pytest.mark.parametrize(
    "reference", ["", "nobody", "tiny@3", "tiny@0", "tiny@01", "tiny@", "@1", "tiny@1@1", "../tiny", "TINY", "x" * 1000]
)
def test_what_is_not_served_is_unknown(tiny_models: Path, reference: str) -> None:
    with pytest.raises(Unknown):
        opened(tiny_models).find(reference)


def test_versions_are_numbers_not_texts(tmp_path: Path) -> None:
    write_bundle(tmp_path, version=9)
    write_bundle(tmp_path, version=10)
    assert opened(tmp_path).default.autoencoder.contract.version == 10


def test_a_refused_version_leaves_the_highest_that_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_bundle(tmp_path)
    (write_bundle(tmp_path, version=2) / "encoder.onnx").write_bytes(b"")
    registry = opened(tmp_path)
    assert registry.default.autoencoder.contract.id == "tiny@1"
    assert list(registry.refused) == ["tiny/2"]
    assert "encoder.onnx is not the file" in caplog.text


def test_a_default_that_is_refused_is_an_error_that_says_why(tmp_path: Path) -> None:
    seal(write_bundle(tmp_path), latent_dim=0)
    with pytest.raises(BundleRefused, match=r"There is no model 'tiny'\..*latent_dim 0 is not a positive integer"):
        opened(tmp_path)


def test_an_empty_or_absent_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused, match="There is no model 'tiny'"):
        opened(tmp_path / "absent")


def test_folders_that_are_no_versions_are_left_alone(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "tiny" / ".2.tmp").mkdir()
    (tmp_path / "tiny" / "draft").mkdir()
    registry = opened(tmp_path)
    assert not registry.refused
    assert len(list(registry)) == 1
