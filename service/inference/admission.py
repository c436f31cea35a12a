"""A bound on what one process holds for its requests at once, in images and in bytes.

The queue is counted in images, not in requests, because images are what takes time to compute. Bytes are everything
that a request makes the process hold: its body, what is parsed and decoded from it, and its answer until that is sent.
Both are reserved before the work, and a request that does not fit is refused while a refusal is still cheap.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from service.errors import DeadlineExceeded, LimitExceeded, Overloaded


class Admission:
    """What one process holds: `images` admitted and not yet answered, and `bytes` for requests."""

    def __init__(self, *, most_images: int, most_bytes: int) -> None:
        self.most_images = most_images
        self.most_bytes = most_bytes
        self.images = 0
        self.bytes = 0
        self.lock = Lock()  # for `bytes`, which codec threads reserve, too; images are counted on the event loop alone


class Reservation:
    """What one request, or one connection, holds of an `Admission`: `images`, and `bytes`. Nothing at first."""

    __slots__ = ("_admission", "_released", "_threads", "bytes", "images")

    def __init__(self, admission: Admission | None = None) -> None:
        """Without an `admission` there is no bound."""
        self._admission = admission
        self.bytes = 0
        self._threads = 0
        self._released = False
        self.images = 0

    def check_images(self, count: int) -> None:
        """Raise Overloaded when `count` images in all do not fit. Reserves nothing; any thread may call it."""
        admission = self._admission
        if admission is not None:
            others = admission.images - self.images
            if others > 0 and others + count > admission.most_images:
                raise Overloaded("The queue is full.", "queue_full")

    def hold_images(self, count: int) -> None:
        """Reserve `count` images in all, in place of what was reserved before. Raises Overloaded.

        A request that is alone is admitted whatever its size; otherwise a large one would never be.
        """
        self.check_images(count)
        if self._admission is not None:
            self._admission.images += count - self.images
        self.images = count

    def hold_bytes(self, count: int) -> None:
        """Reserve `count` more bytes; free them when `count` is negative. Any thread may call it.

        Raises Overloaded when they do not fit now, and LimitExceeded when they would not even if the request were
        alone: unlike a queue, memory has an end.
        """
        admission = self._admission
        if admission is None:
            return
        with admission.lock:
            if count > 0 and self.bytes + count > admission.most_bytes:
                raise LimitExceeded(
                    f"The request needs more memory than all requests together may have: {admission.most_bytes} bytes, "
                    "by VAE_MEMORY_BYTES."
                )
            if count > 0 and admission.bytes + count > admission.most_bytes:
                raise Overloaded("Other requests have the memory that this one needs.", "bodies_full")
            admission.bytes += count
            self.bytes += count

    def count_bytes(self, count: int) -> None:
        """Count `count` more bytes, which are there already, whether they fit or not."""
        admission = self._admission
        if admission is not None:
            with admission.lock:
                admission.bytes += count
                self.bytes += count

    def free_bytes(self) -> None:
        """Free all bytes, and no images."""
        admission = self._admission
        if admission is not None:
            with admission.lock:
                self._free(admission)

    @contextmanager
    def in_thread(self) -> Iterator[None]:
        """Have the bytes stay reserved until the block ends, in a thread that nobody may be waiting for by then.

        Raises DeadlineExceeded when they have been released already.
        """
        admission = self._admission
        if admission is None:
            yield
            return
        with admission.lock:
            if self._released:
                raise DeadlineExceeded
            self._threads += 1
        try:
            yield
        finally:
            with admission.lock:
                self._threads -= 1
                self._free_if_over(admission)

    def release(self) -> None:
        """Free everything, the bytes as soon as no thread uses them. A second call does nothing."""
        admission = self._admission
        if admission is None or self._released:
            return
        admission.images -= self.images
        self._released = True
        if self.bytes or self._threads:  # a thread that begins just now frees its own bytes when it ends
            with admission.lock:
                self._free_if_over(admission)

    def _free_if_over(self, admission: Admission) -> None:
        if self._released and not self._threads:
            self._free(admission)

    def _free(self, admission: Admission) -> None:
        admission.bytes -= self.bytes
        self.bytes = 0
