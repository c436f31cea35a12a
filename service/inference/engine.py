"""It opens a bundle, checks its outputs against PyTorch's, and runs it."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from service import contract as names
from service.contract import Contract
from service.errors import (
    BundleRefused,
    DeviceFailed,
    Fault,
    InvalidInput,
    NotOnCuda,
    ProviderUnavailable,
    RuntimeFailed,
)
from service.inference.bundle import Bundle
from service.inference.pace import Pace, Paces
from service.inference.sessions import (
    CPU,
    CUDA,
    ProviderPolicy,
    Session,
    choose_provider,
    failure,
    open_session,
    padded,
)

log = logging.getLogger(__name__)

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

# Batch sizes that are run once when a model is opened on CUDA, where the first run of each size is slow. The largest
# one is the default of VAE_BATCH.
WARM_SIZES: Final = tuple(2**power for power in range(9))

# An encoder that refines its posteriors decodes several draws of each image. More images than fill so many rows of the
# decoder are encoded one part after another, so that the buffers of a run stay small. The results are the same.
REFINED_ROWS: Final = 256

# With TF32 a product's inputs keep ten bits of mantissa. On an H100 latents were off by up to 0.002, images by a grey
# level (python -m bench.gpu).
TF32_TOLERANCE: Final = 0.01
TF32_GREY_LEVELS: Final = 2


class Engine:
    """Both graphs of one bundle, opened and tested. Any thread may call it. Arrays in, arrays out."""

    def __init__(self, bundle: Bundle, *, provider: ProviderPolicy, threads: int, tf32: bool = False) -> None:
        """Open the sessions, check their identity, and run the golden self-test, which also warms them up.

        With `tf32`, products on CUDA are less exact, and the self-test allows that. Raises ProviderUnavailable when
        `provider` is "cuda" and CUDA does not work. Raises BundleRefused when the graphs do not match the contract, or
        when their outputs differ from PyTorch's; NotOnCuda when `provider` is "cuda" and a node needs the CPU.
        """
        self.contract: Contract = bundle.contract
        self.card: str = bundle.card
        self._golden = bundle.golden
        try:
            self._start(bundle, choose_provider(provider), threads, tf32)
        except (ProviderUnavailable, NotOnCuda) as error:
            if provider == "cuda":
                raise
            log.warning("%s VAE_PROVIDER is auto: %s runs on the CPU.", error, self.contract.id)
            self._start(bundle, CPU, threads, tf32)

    @property
    def examples(self) -> Images:
        """A few images of the data set, uint8 [N, *image_shape]: the inputs of the golden self-test."""
        return self._golden.image

    def encode(self, images: Images) -> tuple[Floats, Floats]:
        """Images uint8 [N, *image_shape] -> mu, logvar, both float32 [N, latent_dim] and finite.

        Raises RuntimeFailed when onnxruntime fails or returns values that are not finite.
        """
        if len(images) <= self._encoder_rows:
            mu, logvar = self._posteriors(images)
        else:
            starts = range(0, len(images), self._encoder_rows)
            parts = [self._posteriors(images[start : start + self._encoder_rows]) for start in starts]
            mu, logvar = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if not (np.isfinite(mu).all() and np.isfinite(logvar).all()):
            raise RuntimeFailed(f"{self.contract.id}: the encoder gave values that are not finite.")
        return mu, logvar

    def decode(self, z: Floats) -> Images:
        """Latents float32 [N, latent_dim] -> images uint8 [N, *image_shape]; raises as `decode_means`."""
        return self.decode_means(z)[0]

    def decode_means(self, z: Floats) -> tuple[Images, Floats]:
        """Latents float32 [N, latent_dim] -> images uint8 and the mean images behind them, x_hat float32 in [-1, 1].

        Both are [N, *image_shape]. Raises RuntimeFailed when onnxruntime fails, or when x_hat is not finite although
        the latents are no worse than the golden ones. Raises InvalidInput when that is due to the latents: the golden
        ones give what they should, even now.
        """
        images, x_hat = self._run(self._decoder, [names.IMAGE, names.X_HAT], names.Z, z)
        if not np.isfinite(x_hat.sum()):
            if z is not self._golden.z and self._decodes_golden():
                raise InvalidInput(_overflows(x_hat))
            raise RuntimeFailed(f"{self.contract.id}: the decoder gave values that are not finite.")
        return images, x_hat

    def check(self) -> None:
        """Run the golden self-test: run the golden inputs and compare the outputs with PyTorch's.

        Raises RuntimeFailed when onnxruntime fails, and BundleRefused when the outputs differ.
        """
        contract, golden = self.contract, self._golden
        mu, logvar = self.encode(golden.image)
        images_off = self._golden_images_off()
        latents_off = max(float(np.abs(mu - golden.mu).max()), float(np.abs(logvar - golden.logvar).max()))
        if not (latents_off <= self._tolerance and images_off <= self._grey_levels):  # NaN is off, too
            raise BundleRefused(
                f"{contract.id}: the golden self-test failed: latents are off by {latents_off:.2g}, "
                f"images by {images_off} grey levels."
            )

    def _decodes_golden(self) -> bool:
        try:
            return self._golden_images_off() <= self._grey_levels
        except RuntimeFailed:
            return False

    def _golden_images_off(self) -> int:
        """By how many grey levels the golden latents are decoded wrongly. Raises RuntimeFailed."""
        return int(np.abs(self.decode(self._golden.z).astype(np.int16) - self._golden.decoded).max())

    def _start(self, bundle: Bundle, provider: str, threads: int, tf32: bool) -> None:
        self.provider = provider
        draws = self.contract.refinement_draws if provider == CPU else 0  # a GPU runs them all at once
        self._encoder_rows = max(1, REFINED_ROWS // draws) if draws else sys.maxsize
        loose = tf32 and provider == CUDA
        self._tolerance = TF32_TOLERANCE if loose else names.GOLDEN_TOLERANCE
        self._grey_levels = TF32_GREY_LEVELS if loose else names.GREY_LEVEL_TOLERANCE
        try:
            self._encoder, self._decoder = (
                open_session(graph, provider, threads, tf32=tf32) for graph in (bundle.encoder, bundle.decoder)
            )
        except (ProviderUnavailable, NotOnCuda) as error:
            raise type(error)(f"{self.contract.id}: {error}") from error
        self._prove()

    def _posteriors(self, images: Images) -> list[Floats]:
        return self._run(self._encoder, [names.MU, names.LOGVAR], names.IMAGE, images)

    def _run(self, session: Session, outputs: list[str], name: str, rows: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        count = len(rows)
        fed = padded(rows) if self.provider == CUDA else rows
        try:
            results = session.run(outputs, {name: fed})
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise failure(error, self.contract.id, self.provider) from error
        return results if fed is rows else [result[:count] for result in results]

    def _prove(self) -> None:
        """Compare metadata, tensors and golden outputs with the contract.

        Raises BundleRefused when they differ, and ProviderUnavailable when the GPU fails.
        """
        contract = self.contract
        metadata = names.graph_metadata(contract)
        image = ("tensor(uint8)", list(contract.image_shape))
        latent = ("tensor(float)", [contract.latent_dim])
        for file, session, inputs, outputs in (
            (names.ENCODER_FILE, self._encoder, {names.IMAGE: image}, {names.MU: latent, names.LOGVAR: latent}),
            (
                names.DECODER_FILE,
                self._decoder,
                {names.Z: latent},
                {names.IMAGE: image, names.X_HAT: ("tensor(float)", image[1])},
            ),
        ):
            if session.get_modelmeta().custom_metadata_map != metadata:
                raise BundleRefused(f"{contract.id}: {file} carries another identity than {names.CONTRACT_FILE}.")
            for expected, nodes in ((inputs, session.get_inputs()), (outputs, session.get_outputs())):
                found = {node.name: (node.type, node.shape[1:]) for node in nodes}
                if found != expected or any(isinstance(node.shape[0], int) for node in nodes):
                    raise BundleRefused(f"{contract.id}: {file} has tensors {found}, not {expected}, for any batch.")
        try:
            self.check()
            # One image is the most common batch: run it, so that its buffers exist. On CUDA run every padded size.
            for size in WARM_SIZES if self.provider == CUDA else (1,):
                self.decode(self.encode(self._images(size))[0])
        except DeviceFailed as error:
            raise ProviderUnavailable(str(error)) from error
        except (RuntimeFailed, InvalidInput) as error:
            raise BundleRefused(f"{contract.id}: the golden self-test did not run. {error}") from error

    def paces(self) -> Paces:
        """How long encoding and decoding take."""
        mu = self.encode(self._images(1))[0]
        return Paces(
            Pace.measure(lambda rows: self.encode(self._images(rows))),
            Pace.measure(lambda rows: self.decode(np.resize(mu, (rows, mu.shape[1])))),
        )

    def _images(self, count: int) -> Images:
        return np.resize(self._golden.image, (count, *self.contract.image_shape))


def _overflows(x_hat: Floats) -> list[Fault]:
    """One fault for each row that is not finite; for all rows, where each is and only their sum is not."""
    finite = np.isfinite(x_hat.reshape(len(x_hat), -1).sum(axis=1))
    rows = np.flatnonzero(~finite) if not finite.all() else np.arange(len(x_hat))
    return [Fault((names.Z, int(row)), "The model's decoder gives values for it that are not finite.") for row in rows]
