"""A bound on what one process holds at once, in images and in bytes.

The queue is counted in images, not in requests, because images are what takes time to compute. A request that does not
fit is refused at once, while a refusal is still cheap.
"""

from __future__ import annotations

from service.errors import Overloaded


class Admission:
    """What one process holds: `images` admitted and not yet answered, `bytes` of bodies that arrive in pieces."""

    def __init__(self, *, most_images: int, most_bytes: int) -> None:
        self.most_images = most_images
        self.most_bytes = most_bytes
        self.images = 0
        self.bytes = 0


class Reservation:
    """What one request holds of an `Admission`: `images`, and bytes of its body. Nothing at first."""

    __slots__ = ("_admission", "_bytes", "images")

    def __init__(self, admission: Admission | None = None) -> None:
        """Without an `admission` there is no bound."""
        self._admission = admission
        self._bytes = 0
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
        """Reserve `count` more bytes for the body. Raises Overloaded when they do not fit."""
        admission = self._admission
        if admission is not None:
            others = admission.bytes - self._bytes
            if others and admission.bytes + count > admission.most_bytes:
                raise Overloaded("Too many bodies are being read at once.", "bodies_full")
            admission.bytes += count
        self._bytes += count

    def release(self) -> None:
        """Free everything. A second call does nothing."""
        if self._admission is not None:
            self._admission.images -= self.images
            self._admission.bytes -= self._bytes
            self._admission = None
