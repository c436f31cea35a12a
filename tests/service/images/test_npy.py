"""Batches in NumPy's format."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest

from harness.digits import digits
from service.errors import InvalidInput, LimitExceeded
from service.images import codec
from service.images.preprocess import Images, Preprocess
from tests.service.images.reading import DIGIT, SHAPE


def npy_header(text: str) -> bytes:
    header = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


class TestNpy:
    @staticmethod
    def read(
        array: Any, preprocess: Preprocess = "resize", shape: tuple[int, ...] = SHAPE, max_pixels: int = 10**6
    ) -> Images:
        data = array if isinstance(array, bytes) else codec.npy_bytes(array)
        return codec.images_from_npy(
            data, shape, preprocess=preprocess, background=0, max_batch=8, max_pixels=max_pixels
        )

    @pytest.mark.parametrize("order", ["C", "F"])
    def test_a_batch_of_the_models_shape_is_used_bit_for_bit(self, order: Any) -> None:
        np.testing.assert_array_equal(self.read(np.asarray(digits()[:8], order=order)), digits()[:8])

    def test_another_size_is_resized_or_refused(self) -> None:
        large = np.kron(digits()[:3], np.ones((1, 2, 2), np.uint8)).astype(np.uint8)
        np.testing.assert_array_equal(self.read(large), digits()[:3])
        with pytest.raises(InvalidInput) as caught:
            self.read(large, preprocess="none")
        assert caught.value.faults[0].reason == "The images are 56x56 L, not 28x28 L."

    def test_digit_works_on_arrays_too(self) -> None:
        paper = np.kron(255 - digits()[:8], np.ones((1, 3, 3), np.uint8)).astype(np.uint8)
        assert np.abs(self.read(paper, preprocess="digit").astype(int) - digits()[:8]).mean() < 1

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((2, 28, 28), np.float32),
            np.zeros((28, 28), np.uint8),
            np.zeros((2, 28, 28, 4), np.uint8),
            np.zeros((2, 0, 28), np.uint8),
            np.zeros(3, [("a", "u1")]),
        ],
        ids=["floats", "one image", "four channels", "no pixels", "records"],
    )
    def test_arrays_that_are_no_images_are_refused(self, array: Any) -> None:
        with pytest.raises(InvalidInput):
            self.read(array)

    def test_nothing_is_ever_unpickled(self) -> None:
        stream = io.BytesIO()
        np.save(stream, np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(InvalidInput):
            self.read(stream.getvalue())

    @pytest.mark.parametrize(
        "shape",
        [
            "(1000000000000, 28, 28)",
            "(-1, 28, 28)",
            "(2, 28, 28)",
            "(0, 28, 28)",
            f"(0x{'f' * 9000}, 28, 28)",  # more decimal digits than Python converts
        ],
    )
    def test_a_header_that_lies_about_its_size_allocates_nothing(self, shape: str) -> None:
        with pytest.raises(InvalidInput):
            self.read(npy_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}") + bytes(784))

    def test_zero_images_of_an_impossible_size_are_refused(self) -> None:
        with pytest.raises(InvalidInput):
            self.read(npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 9223372036854775807, 28), }"))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x93NUMPY",
            b"\x93NUMPY\x01\x00\xff\xff",
            b"\x93NUMPY\x09\x00" + bytes(100),
            codec.npy_bytes(DIGIT)[:40],
        ],
    )
    def test_broken_headers_are_refused(self, data: bytes) -> None:
        with pytest.raises(InvalidInput):
            self.read(data)

    @pytest.mark.parametrize("header", ["__import__('os').abort()", "[" * 5000, "{'descr': {}, 1: 2}", "{}", "\0"])
    def test_a_header_is_parsed_not_evaluated(self, header: str) -> None:
        with pytest.raises(InvalidInput):
            self.read(npy_header(header))

    def test_batch_and_pixel_limits_hold(self) -> None:
        with pytest.raises(LimitExceeded, match="9 items in one request; at most 8"):
            self.read(np.zeros((9, 28, 28), np.uint8))
        with pytest.raises(LimitExceeded, match="pixels"):
            self.read(np.zeros((8, 56, 56), np.uint8), max_pixels=8 * 56 * 56 - 1)
