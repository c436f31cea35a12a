from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from service import contract
from service.contract import Contract
from training import card, checkpoint, data, export, onnx_model, provenance, versions
from training.checkpoint import Trained
from training.data import Sets
from training.errors import ExportError
from training.export import Measured, main
from training.graphs import Graphs
from training.model import VAE, to_image, to_signal
from training.networks.mlp import MLP
from training.onnx_graph import OPSET, session
from training.prior import Prior
from training.recipe import Recipe

from . import subset
from .conftest import Run


@pytest.fixture
def test_set() -> tuple[Tensor, Tensor]:
    return data.load("mnist", "test", subset.DIRECTORY)


@pytest.fixture
def model(finished: Run) -> VAE:
    return checkpoint.trained(finished.checkpoint).model


PICTURES = {
    "curves.png",
    "latents.png",
    "reconstructions.png",
    "samples-aggregate.png",
    "samples-labels.png",
    "samples-normal.png",
    "trade.png",
    "traversals.png",
}


def read(bundle: Path) -> Contract:
    return Contract.from_json((bundle / contract.CONTRACT_FILE).read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def graph(path: Path) -> onnx.ModelProto:
    return onnx.load(path)


def arguments(run: Run, models: Path) -> list[str]:
    return [str(run.checkpoint), f"--data-dir={subset.DIRECTORY}", f"--models-dir={models}"]


def test_the_bundle_is_what_the_contract_says(finished: Run, small: Recipe, model: VAE) -> None:
    bundle = read(finished.bundle)
    assert (bundle.id, bundle.dataset, bundle.image_shape, bundle.background) == ("mnist-mlp@1", "mnist", (28, 28), 0)
    assert (bundle.latent_dim, bundle.recipe) == (small.latent_dim, small.model_dump())
    assert bundle.identity == onnx_model.identity(model)
    files = contents(finished.bundle)
    del files[contract.CONTRACT_FILE]
    assert {name: hashlib.sha256(content).hexdigest() for name, content in files.items()} == bundle.files
    measured = {contract.PRIOR_FILE, contract.STATISTICS_FILE, contract.MAP_FILE}
    assert set(bundle.files) == {*contract.REQUIRED_FILES} | measured | PICTURES


def test_no_temporary_folder_is_left(finished: Run) -> None:
    assert [path.name for path in finished.bundle.parent.iterdir()] == ["1"]


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_graphs_compute_what_pytorch_computes(
    batch: int, finished: Run, model: VAE, test_set: tuple[Tensor, Tensor]
) -> None:
    images = test_set[0][-batch:]
    encoder = session((finished.bundle / contract.ENCODER_FILE).read_bytes())
    decoder = session((finished.bundle / contract.DECODER_FILE).read_bytes())
    mu, logvar = encoder.run([contract.MU, contract.LOGVAR], {contract.IMAGE: images.numpy()})
    for got, wanted in zip((mu, logvar), model.encode(to_signal(images)), strict=True):
        np.testing.assert_allclose(got, wanted.numpy(), atol=contract.EXPORT_TOLERANCE, rtol=0)
    image, x_hat = decoder.run([contract.IMAGE, contract.X_HAT], {contract.Z: mu})
    wanted = model.decode(torch.from_numpy(mu))
    np.testing.assert_allclose(x_hat, wanted.numpy(), atol=contract.EXPORT_TOLERANCE, rtol=0)
    assert image.dtype == np.uint8
    assert np.abs(image.astype(int) - to_image(wanted).numpy().astype(int)).max() <= contract.GREY_LEVEL_TOLERANCE


def test_a_row_of_a_batch_equals_the_row_alone(finished: Run, test_set: tuple[Tensor, Tensor]) -> None:
    images = test_set[0][:64].numpy()
    encoder = session((finished.bundle / contract.ENCODER_FILE).read_bytes())
    decoder = session((finished.bundle / contract.DECODER_FILE).read_bytes())
    alone = [encoder.run(None, {contract.IMAGE: image[None]}) for image in images]
    mu = np.concatenate([each[0] for each in alone])
    pictures = np.concatenate([decoder.run([contract.IMAGE], {contract.Z: z[None]})[0] for z in mu])
    for batch in (*range(1, 17), 31, 32, 33, 64):
        np.testing.assert_array_equal(encoder.run([contract.MU], {contract.IMAGE: images[:batch]})[0], mu[:batch])
        np.testing.assert_array_equal(decoder.run([contract.IMAGE], {contract.Z: mu[:batch]})[0], pictures[:batch])


@pytest.mark.parametrize("name", [contract.ENCODER_FILE, contract.DECODER_FILE])
def test_a_graph_tells_its_contract_and_nothing_of_the_machine(name: str, finished: Run) -> None:
    found = graph(finished.bundle / name)
    assert {each.key: each.value for each in found.metadata_props} == contract.graph_metadata(read(finished.bundle))
    assert [each.version for each in found.opset_import] == [OPSET]
    onnx.checker.check_model(found, full_check=True)
    for part in (found.graph, *found.graph.node, *found.graph.value_info, *found.graph.initializer):
        assert not part.metadata_props
        assert not part.doc_string
    for initializer in found.graph.initializer:
        initializer.raw_data = b""  # weights may spell anything
    assert "/" not in str(found)
    assert "stack_trace" not in str(found)


def test_the_graphs_are_lean(finished: Run) -> None:
    operators = [
        [node.op_type for node in graph(finished.bundle / name).graph.node]
        for name in (contract.ENCODER_FILE, contract.DECODER_FILE)
    ]
    assert operators == [
        ["Cast", "Mul", "Sub", "Reshape", "Gemm", "Relu", "Gemm", "Split"],
        ["Gemm", "Relu", "Gemm", "Reshape", "Tanh", "Add", "Mul", "Round", "Clip", "Cast"],
    ]


def test_golden_holds_real_digits_of_every_label_and_what_pytorch_makes_of_them(
    finished: Run, model: VAE, test_set: tuple[Tensor, Tensor]
) -> None:
    images, labels = test_set
    with np.load(finished.bundle / contract.GOLDEN_FILE, allow_pickle=False) as file:
        golden = dict(file)
    assert set(golden) == {contract.IMAGE, contract.MU, contract.LOGVAR, contract.Z, contract.GOLDEN_DECODED}
    chosen = data.some_of_each_label(labels, export.GOLDEN_IMAGES)
    assert sorted(labels[chosen].tolist()) == sorted([*range(10), *range(6)])
    np.testing.assert_array_equal(golden[contract.IMAGE], images[chosen].numpy())
    mu, logvar = model.encode(to_signal(images[chosen]))
    np.testing.assert_array_equal(golden[contract.MU], mu.numpy())
    np.testing.assert_array_equal(golden[contract.LOGVAR], logvar.numpy())
    decoded = to_image(model.decode(torch.from_numpy(golden[contract.Z])))
    np.testing.assert_array_equal(golden[contract.GOLDEN_DECODED], decoded.numpy())


def copied(finished: Run, tmp_path: Path) -> Run:
    """The finished run, for a test that changes its files."""
    return Run(
        "",
        Path(shutil.copytree(finished.runs, tmp_path / "runs")),
        Path(shutil.copytree(finished.models, tmp_path / "models")),
    )


def test_exporting_again_gives_the_same_bytes(finished: Run, tmp_path: Path) -> None:
    """From another process than the first bundle's, and into another place."""
    copy = copied(finished, tmp_path)
    assert main(arguments(copy, tmp_path / "elsewhere")) == 0
    assert contents(tmp_path / "elsewhere" / "mnist-mlp" / "1") == contents(finished.bundle)


_TRADE = {1.0: {"recall": 1.0}}


class TestVersions:
    """Which version a bundle gets."""

    @pytest.fixture(autouse=True)
    def _measured_once(self, finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Everything is read from the finished run's bundle, where it was measured."""

        def measured(run: Trained, sets: Sets, version: int, **_: Any) -> Measured:
            bundle = read(finished.bundle)
            files = [(finished.bundle / name).read_bytes() for name in (contract.ENCODER_FILE, contract.DECODER_FILE)]
            prior = Prior.from_bytes((finished.bundle / contract.PRIOR_FILE).read_bytes())
            found = Measured(bundle, run.model, files[0], files[1], Graphs(files[0], files[1]), prior, _TRADE)
            return export._renumbered(found, version)

        pictures = {
            name: content for name, content in contents(finished.bundle).items() if name.endswith(("png", "md"))
        }
        monkeypatch.setattr(export, "measure", measured)
        monkeypatch.setattr(card, "write", lambda *_: pictures)

    def test_the_same_bundle_is_left_as_it_is(
        self, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        copy = copied(finished, tmp_path)
        (copy.bundle / "curves.png").write_bytes(b"drawn by another version of the library")
        before = contents(copy.bundle)
        assert main(arguments(copy, copy.models)) == 0
        assert f"{copy.bundle} is this very bundle already, with the same weights" in capsys.readouterr().out
        assert [path.name for path in copy.bundle.parent.iterdir()] == ["1"]
        assert contents(copy.bundle) == before

    @pytest.mark.parametrize("changed", ["weights", "figures", "graph", "labels", "statistics", "sharpness"])
    def test_another_bundle_is_the_next_version(self, changed: str, finished: Run, tmp_path: Path) -> None:
        copy = copied(finished, tmp_path)
        document = json.loads((copy.bundle / contract.CONTRACT_FILE).read_text())
        if changed == "weights":
            document["identity"] = "0" * 64
        elif changed == "figures":
            document["metrics"]["total"] += 1
        elif changed == "statistics":  # an export of older code has none
            del document["files"][contract.STATISTICS_FILE]
        elif changed == "sharpness":
            document["sharpness"] = 7
        elif changed == "labels":
            document["label_names"] = [str(label) for label in range(10)]
        else:
            path = copy.bundle / contract.DECODER_FILE
            path.write_bytes((copy.bundle / contract.ENCODER_FILE).read_bytes())
        (copy.bundle / contract.CONTRACT_FILE).write_text(json.dumps(document))
        copy.bundle.rename(copy.bundle.with_name("9"))
        assert main(arguments(copy, copy.models)) == 0
        assert sorted(path.name for path in copy.bundle.parent.iterdir()) == ["10", "9"]
        bundle = read(copy.bundle.with_name("10"))
        assert bundle.id == "mnist-mlp@10"
        assert {each.key: each.value for each in graph(copy.bundle.with_name("10") / "encoder.onnx").metadata_props}[
            "vae.version"
        ] == "10"
        sizes = [(copy.bundle.with_name("10") / name).stat().st_size for name in ("encoder.onnx", "decoder.onnx")]
        assert bundle.metrics["onnx_bytes"] == sum(sizes)

    def test_a_damaged_bundle_is_no_reason_to_stop(self, finished: Run, tmp_path: Path) -> None:
        copy = copied(finished, tmp_path)
        (copy.bundle / contract.CONTRACT_FILE).write_text("no contract")
        assert main(arguments(copy, copy.models)) == 0
        assert read(copy.bundle.with_name("2")).version == 2

    def test_a_version_that_is_asked_for_is_refused_when_it_exists(
        self, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(data, "load_both", None)  # nothing is read before
        copy = copied(finished, tmp_path)
        assert main([*arguments(copy, copy.models), "--version=1"]) == 1
        assert capsys.readouterr().err == (
            f"{copy.bundle} exists: leave out --version to take the next free one, or add --overwrite to replace it.\n"
        )

    def test_a_version_that_is_asked_for_is_taken(self, finished: Run, tmp_path: Path) -> None:
        copy = copied(finished, tmp_path)
        assert main([*arguments(copy, copy.models), "--version=3"]) == 0
        assert read(copy.bundle.with_name("3")).identity == read(copy.bundle).identity

    def test_a_version_is_replaced_on_demand(self, finished: Run, tmp_path: Path) -> None:
        copy = copied(finished, tmp_path)
        (copy.bundle / "README.md").write_text("edited by hand")
        assert main([*arguments(copy, copy.models), "--version=1", "--overwrite"]) == 0
        assert contents(copy.bundle) == contents(finished.bundle)
        assert [path.name for path in copy.bundle.parent.iterdir()] == ["1"]

    def test_of_two_exports_at_once_both_get_a_version(
        self, finished: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish = versions.publish

        def late(files: dict[str, bytes], folder: Path, *, overwrite: bool) -> None:
            if folder.name == "1":  # another export takes this version now
                publish({"model.json": b"{}"}, folder, overwrite=False)
            publish(files, folder, overwrite=overwrite)

        monkeypatch.setattr(versions, "publish", late)
        copy = copied(finished, tmp_path)
        assert main(arguments(copy, tmp_path / "other")) == 0
        place = tmp_path / "other" / "mnist-mlp"
        assert contents(place / "1") == {"model.json": b"{}"}
        assert read(place / "2").id == "mnist-mlp@2"

    def test_a_quick_look_writes_nothing(
        self, finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = contents(finished.folder).keys(), (finished.folder / "metrics.json").stat()
        assert main([*arguments(finished, tmp_path), "--quick"]) == 0
        told = capsys.readouterr().out
        assert "a quick look: 200 of 200 test images, 10 draws of each image" in told
        assert "No bundle is written." in told
        assert not any(tmp_path.iterdir())
        assert (contents(finished.folder).keys(), (finished.folder / "metrics.json").stat()) == before


@pytest.mark.parametrize("wrong", [["--version=0"], ["--overwrite"]])
def test_options_that_make_no_sense_are_refused(
    wrong: list[str], finished: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments(finished, tmp_path), *wrong]) == 2
    assert capsys.readouterr().err.startswith(wrong[0].partition("=")[0])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["write", "rename"])
def test_a_failure_midway_leaves_what_was_there(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mnist-mlp" / "2"
    versions.publish({"a": b"old"}, folder, overwrite=False)

    def fail(*_: Any) -> None:
        raise OSError("no space left on device")

    if name == "write":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda path, to: fail() if path.name == "new" else rename(path, to))
    for place in (folder, tmp_path / "mnist-mlp" / "3"):
        with pytest.raises(OSError, match="no space left"):
            versions.publish({"a": b"new", "b": b"more"}, place, overwrite=True)
    assert [path.name for path in folder.parent.iterdir()] == ["2"]
    assert contents(folder) == {"a": b"old"}


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_graph_that_disagrees_with_pytorch_is_not_exported(
    part: str, finished: Run, model: VAE, test_set: tuple[Tensor, Tensor]
) -> None:
    graphs = {name: (finished.bundle / f"{name}.onnx").read_bytes() for name in ("encoder", "decoder")}
    onnx_model.prove_parity(model, **graphs, images=test_set[0])
    assert isinstance(model, MLP)
    bias = {"encoder": model.posterior.bias, "decoder": model.pixels.bias}[part]
    with torch.no_grad():
        bias[0] += 0.1
    with pytest.raises(ExportError, match=r"No bundle is written: (mu|image) at batch 1 is .* from PyTorch's"):
        onnx_model.prove_parity(model, **graphs, images=test_set[0])


def test_the_commit_is_unknown_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.git_commit() == "unknown"


def test_the_commit_is_the_last_that_changed_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.setattr(provenance, "ROOT", tmp_path.resolve())
    git("init")
    for file in ("training/code.py", "README.md"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("first")
        git("add", file)
        git("commit", "-m", file)
    assert provenance.git_commit() == git("rev-parse", "HEAD~1")
    (tmp_path / "README.md").write_text("second")
    assert provenance.git_commit() == git("rev-parse", "HEAD~1")
    (tmp_path / "training" / "code.py").write_text("second")
    assert provenance.git_commit() == git("rev-parse", "HEAD~1") + "-dirty"


def test_equal_arrays_make_equal_archives(model: VAE, test_set: tuple[Tensor, Tensor]) -> None:
    one, other = (export._golden(model, *test_set) for _ in range(2))
    assert one == other
    assert len(np.load(io.BytesIO(one))) == 5
