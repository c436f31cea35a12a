"""The only module that imports onnxruntime. It opens a bundle, checks its outputs against PyTorch's, and runs it."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from service import contract as names
from service.contract import Contract
from service.errors import BundleRefused, Fault, InvalidInput, ProviderUnavailable, RuntimeFailed
from service.inference.bundle import Bundle
from service.inference.pace import Pace, Paces

log = logging.getLogger(__name__)

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
ProviderPolicy = Literal["auto", "cpu", "cuda"]

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

# Batch sizes that are run once when a model is opened on CUDA, where the first run of each size is slow. The largest
# one is the default of VAE_BATCH.
WARM_SIZES: Final = tuple(2**power for power in range(9))

# An encoder that refines its posteriors decodes several draws of each image. More images than fill so many rows of the
# decoder are encoded one part after another, so that the buffers of a run stay small. The results are the same.
REFINED_ROWS: Final = 256

_CUDA_OPTIONS: Final[dict[str, Any]] = {
    # Let the memory arena grow by the size requested, not to the next power of two, which a small model does not need.
    "arena_extend_strategy": "kSameAsRequested",
    # The default, an exhaustive search, makes the first run of each new shape slow.
    "cudnn_conv_algo_search": "HEURISTIC",
    # TF32 keeps ten bits of the mantissa: too few for the golden self-test, and small products gain nothing from it.
    "use_tf32": "0",
}


class Engine:
    """Both graphs of one bundle, opened and tested. Any thread may call it. Arrays in, arrays out."""

    def __init__(self, bundle: Bundle, *, provider: ProviderPolicy, threads: int) -> None:
        """Open the sessions, check their identity, and run the golden self-test, which also warms them up.

        Raises ProviderUnavailable when `provider` is "cuda" and CUDA does not work. Raises BundleRefused when the
        graphs do not match the contract, or when their outputs differ from PyTorch's.
        """
        self.contract: Contract = bundle.contract
        self.card: str = bundle.card
        self._golden = bundle.golden
        draws = self.contract.refinement_draws
        self._encoder_rows = max(1, REFINED_ROWS // draws) if draws else sys.maxsize
        self.provider: str = choose_provider(provider)
        try:
            self._open(bundle, threads)
        except ProviderUnavailable as error:
            if provider == "cuda":
                raise
            log.warning("%s VAE_PROVIDER is auto: %s runs on the CPU.", error, self.contract.id)
            self.provider = CPU
            self._open(bundle, threads)
        self._prove()

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
        if not (latents_off <= names.GOLDEN_TOLERANCE and images_off <= names.GREY_LEVEL_TOLERANCE):  # NaN is off, too
            raise BundleRefused(
                f"{contract.id}: the golden self-test failed: latents are off by {latents_off:.2g}, "
                f"images by {images_off} grey levels."
            )

    def _decodes_golden(self) -> bool:
        try:
            return self._golden_images_off() <= names.GREY_LEVEL_TOLERANCE
        except RuntimeFailed:
            return False

    def _golden_images_off(self) -> int:
        """By how many grey levels the golden latents are decoded wrongly. Raises RuntimeFailed."""
        return int(np.abs(self.decode(self._golden.z).astype(np.int16) - self._golden.decoded).max())

    def _open(self, bundle: Bundle, threads: int) -> None:
        self._encoder = _open_session(bundle.encoder, self.provider, threads)
        self._decoder = _open_session(bundle.decoder, self.provider, threads)

    def _posteriors(self, images: Images) -> list[Floats]:
        return self._run(self._encoder, [names.MU, names.LOGVAR], names.IMAGE, images)

    def _run(
        self, session: ort.InferenceSession, outputs: list[str], name: str, rows: npt.NDArray[Any]
    ) -> list[npt.NDArray[Any]]:
        count = len(rows)
        fed = padded(rows) if self.provider == CUDA else rows
        try:
            results = session.run(outputs, {name: fed})
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise RuntimeFailed(f"{self.contract.id}: onnxruntime failed: {error}") from error
        return results if fed is rows else [result[:count] for result in results]

    def _prove(self) -> None:
        """Compare metadata, tensors and golden outputs with the contract. Raises BundleRefused when they differ."""
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


def padded(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows [N, ...] with zeros after them, up to the next power of two.

    On CUDA each new batch size makes onnxruntime's arena keep another set of buffers, and cuBLAS select kernels again.
    There are only eleven powers of two up to 1,024. A GPU computes the extra rows in parallel with the others.
    """
    size = 1 << (len(rows) - 1).bit_length()
    if size == len(rows):
        return rows
    fed = np.zeros((size, *rows.shape[1:]), rows.dtype)
    fed[: len(rows)] = rows
    return fed


def choose_provider(policy: ProviderPolicy) -> str:
    """The execution provider to try first. `Engine` finds out whether it works.

    Raises ProviderUnavailable when the policy is "cuda" and onnxruntime was built without it.
    """
    if policy == "cpu":
        return CPU
    if CUDA in ort.get_available_providers():
        return CUDA
    if policy == "cuda":
        raise ProviderUnavailable("VAE_PROVIDER is cuda, but this onnxruntime has no CUDA; install onnxruntime-gpu.")
    return CPU


def _open_session(graph: bytes, provider: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors are raised; warnings would only be printed on standard error
    # Explicit threads: by default onnxruntime uses every core of the host and binds its threads to them, whatever the
    # quota of the container. Spinning would keep a core busy after each run, to save microseconds in the next one.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider == CUDA and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # loads the CUDA libraries of the nvidia packages, if pip installed them
    providers: list[Any] = [(CUDA, _CUDA_OPTIONS), CPU] if provider == CUDA else [CPU]
    try:
        # enable_fallback=0: otherwise onnxruntime prints a line, retries on the CPU and reports success.
        session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's own exceptions share no base class
        if provider == CUDA:
            raise ProviderUnavailable(f"CUDA cannot be had: {error}") from error
        raise BundleRefused(f"onnxruntime cannot open a graph: {error}") from error
    session.disable_fallback()  # otherwise a failing run() moves the session to the CPU, too
    session._model_bytes = None  # a second copy of the graph, used only for that fallback
    if session.get_providers()[0] != provider:
        raise ProviderUnavailable(f"onnxruntime could not give {provider}; what it wrote on standard error says why.")
    return session
