"""Properties of the readers for any input: only documented errors are raised, and what was written is read back."""

from __future__ import annotations

import base64
import json
import zlib
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from harness.digits import digits, encoded
from service.api.answers import IMAGE_TYPES, LATENT_TYPES, negotiate
from service.api.request_head import JSON, MULTIPART, NPY, RequestOptions
from service.api.requests import Body, decode_images, parse_images, read_form, read_latents
from service.api.schemas import (
    DecodeRequest,
    ImageOptions,
    ImageRequest,
    InterpolateRequest,
    ReconstructRequest,
    SampleRequest,
    ScoreOptions,
    ScoreRequest,
    TraverseRequest,
)
from service.errors import InvalidInput
from service.images import codec
from service.images.preprocess import Images, Preprocess
from service.inference.admission import Reservation
from service.inference.registry import Registry
from tests.fuzz.forms import SETTINGS, documented, json_values
from tests.fuzz.pictures import chunk, header, hostile_pictures, rows

SHAPES = [(28, 28), (6, 4), (1, 1), (5, 7, 3)]


def images_of(body: Body, registry: Registry) -> Images:
    """What a verb makes of a request's body."""
    return decode_images(
        parse_images(body, registry, SETTINGS, Reservation(), ImageOptions, ImageRequest), SETTINGS, Reservation()
    )


@st.composite
def images(draw: st.DrawFn, shape: tuple[int, ...] | None = None) -> Images:
    """A few images of one shape, some of them noise and some nearly blank."""
    shape = shape or draw(st.sampled_from(SHAPES))
    count, seed, most = draw(st.integers(1, 5)), draw(st.integers(0, 2**32)), draw(st.sampled_from([1, 2, 256]))
    return np.random.Generator(np.random.PCG64(seed)).integers(0, most, (count, *shape), np.uint8)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes with a few of them changed, lost, doubled or swapped for others."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        data[start:end] = draw(st.one_of(st.binary(max_size=20), st.just(bytes(data[start:end]) * 2)))
    return bytes(data)


KINDS = [encoded(digits()[0], kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
SMALL = [picture.data for picture in hostile_pictures() if len(picture.data) < 5_000]
any_picture = st.one_of(st.binary(max_size=200), damaged(st.sampled_from(KINDS + SMALL)))


class TestBase64:
    @given(st.binary(max_size=300), st.sampled_from(["", "data:image/png;base64,", "data:a/b;x=y;base64,"]))
    def test_what_was_written_is_read(self, data: bytes, start: str) -> None:
        assert codec.base64_bytes(start + base64.b64encode(data).decode()) == data
        assert codec.base64_bytes(start + base64.encodebytes(data).decode()) == data

    @given(st.one_of(st.text(), st.text("AB=/+ \n"), st.text("data:;,base64=/").map(lambda text: f"data:{text}")))
    def test_what_is_not_base64_is_a_value_error(self, text: str) -> None:
        try:
            data = codec.base64_bytes(text)
        except ValueError:
            return
        assert codec.base64_bytes(base64.b64encode(data).decode()) == data


PREPROCESS: list[Preprocess] = ["auto", "none", "resize", "digit"]


class TestPictures:
    @given(any_picture, st.sampled_from(SHAPES), st.sampled_from(PREPROCESS), st.integers(0, 255))
    def test_bytes_are_an_image_of_the_models_shape_or_refused(
        self, data: bytes, shape: tuple[int, ...], preprocess: Preprocess, background: int
    ) -> None:
        found = documented(
            lambda: codec.images_from_pictures(
                [data], shape, preprocess=preprocess, background=background, max_pixels=100_000
            )
        )
        if found is not None:
            assert (found.shape, found.dtype) == ((1, *shape), np.uint8)

    @given(images(), st.sampled_from(["PNG", "WEBP", "BMP", "TIFF"]))
    def test_what_was_written_without_loss_is_read(self, written: Images, kind: str) -> None:
        options = {"lossless": True} if kind == "WEBP" else {}
        files = [encoded(image, kind, **options) for image in written]
        shape = written.shape[1:]
        read = codec.images_from_pictures(files, shape, preprocess="resize", background=0, max_pixels=10**6)
        np.testing.assert_array_equal(read, written)

    @given(images())
    def test_our_own_pngs_are_read_alike_by_both_readers(self, written: Images) -> None:
        files = codec.png_files(written)
        shape = written.shape[1:]
        slow = codec.images_from_pictures(files, shape, preprocess="none", background=0, max_pixels=10**6)
        np.testing.assert_array_equal(slow, written)
        quick = codec.images_from_small_pngs(files, shape, max_pixels=10**6)
        if len(shape) == 2:
            np.testing.assert_array_equal(quick, written)


@st.composite
def plain_pngs(draw: st.DrawFn) -> bytes:
    """Grey PNGs such as the quick reader takes, with rows filtered in any way, too few, too many, or not packed."""
    filters = draw(st.lists(st.integers(0, 5), min_size=28, max_size=28))
    image = digits()[draw(st.integers(0, 9))]
    filtered = b"".join(bytes([kind]) + row.tobytes() for kind, row in zip(filters, image, strict=True))
    filtered = draw(st.sampled_from([filtered, rows(image), filtered[:-1], filtered[:-29], filtered * 2, b""]))
    packed = zlib.compress(filtered, draw(st.integers(0, 9)))
    packed = draw(
        st.sampled_from([packed, packed[:-4], packed[:-1], packed[:-20], packed + b"x", packed[:-4] + bytes(4)])
    )
    return header(28, 28) + chunk(b"IDAT", draw(st.one_of(st.just(packed), damaged(st.just(packed))))) + END


END = chunk(b"IEND", b"")


@given(st.one_of(plain_pngs(), damaged(plain_pngs()), any_picture), st.booleans())
def test_the_quick_reader_gives_what_the_other_gives_or_nothing(data: bytes, as_text: bool) -> None:
    picture = base64.b64encode(data).decode() if as_text else data
    quick = codec.images_from_small_pngs([picture], (28, 28), max_pixels=784)
    if quick is None:
        return
    try:
        slow = codec.images_from_pictures([picture], (28, 28), preprocess="none", background=0, max_pixels=784)
    except InvalidInput:
        # All pixels were there, under a right CRC: only what the deflate stream says of them at its end is bad.
        with pytest.raises(zlib.error, match=r"incorrect data check|incomplete or truncated stream"):
            zlib.decompress(data[41:-16])
        assert len(zlib.decompressobj(-15).decompress(data[43:-16])) >= 28 * 29
    else:
        np.testing.assert_array_equal(quick, slow)


def latin(data: bytes) -> str:
    return data.decode("latin-1")


@given(st.one_of(st.text("AB=/+ \n-_", max_size=80), damaged(st.just(base64.b64encode(KINDS[0]))).map(latin)))
def test_the_quick_reader_takes_no_base64_that_the_other_refuses(text: str) -> None:
    if codec.images_from_small_pngs([text], (28, 28), max_pixels=784) is not None:
        codec.base64_bytes(text)


class TestNpy:
    @given(images(), st.sampled_from("CF"))
    def test_what_was_written_is_read(self, written: Images, order: Any) -> None:
        np.testing.assert_array_equal(codec.parse_npy(codec.npy_bytes(np.asarray(written, order=order))), written)

    @given(st.one_of(st.binary(max_size=200), damaged(images((28, 28)).map(codec.npy_bytes))))
    def test_bytes_are_a_batch_of_images_or_refused(self, data: bytes) -> None:
        array = documented(lambda: codec.parse_npy(data))
        if array is not None:
            assert array.dtype == np.uint8
            assert array.ndim in (3, 4)

    @given(
        shape=st.lists(st.one_of(st.integers(0, 30), st.integers()), max_size=5).map(tuple),
        kind=st.sampled_from(["|u1", "u1", "B", "<f4", "|O", "|V0", "nonsense", [("a", "|u1")]]),
        size=st.sampled_from([0, 1, 784, 1000]),
    )
    @example(shape=(0, 2**63, 28), kind="|u1", size=0)
    @example(shape=(16**4000, 28, 28), kind="|u1", size=784)
    def test_a_header_that_lies_is_refused(self, shape: tuple[int, ...], kind: Any, size: int) -> None:
        sizes = ", ".join(map(hex, shape)) + ","
        text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': ({sizes}), }}\n".encode()
        data = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + bytes(size)
        array = documented(lambda: codec.parse_npy(data))
        if array is not None:
            assert array.shape == shape
            assert array.size == size


FIELDS = [
    "images",
    "model",
    "preprocess",
    "preview",
    "sample",
    "seed",
    "n",
    "temperature",
    "label",
    "prior",
    "z",
    "k",
    "other",
]
FIELDS += ["steps", "path", "dims", "range", "sharpness"]


class TestJson:
    @given(
        st.sampled_from(
            [
                ImageRequest,
                ReconstructRequest,
                ScoreRequest,
                SampleRequest,
                DecodeRequest,
                InterpolateRequest,
                TraverseRequest,
            ]
        ),
        st.one_of(json_values, st.dictionaries(st.sampled_from(FIELDS), json_values)).map(json.dumps),
    )
    def test_a_document_is_a_form_or_refused(self, form: Any, text: str) -> None:
        documented(
            lambda: read_form(Body(text.encode("utf-8", "surrogatepass"), RequestOptions(JSON)), form, Reservation())
        )

    @given(
        damaged(
            st.just(b'{"n": 3, "seed": 12, "temperature": 0.5e-1, "model": "a\\u00e9\\ud83d\\ude00", "label": null}')
        )
    )
    def test_bytes_are_a_form_or_refused(self, data: bytes) -> None:
        documented(lambda: read_form(Body(data, RequestOptions(JSON)), SampleRequest, Reservation()))

    @given(images=images((28, 28)))
    def test_pictures_arrive_as_they_were_sent(self, registry: Registry, images: Images) -> None:
        texts = [base64.b64encode(encoded(image)).decode() for image in images]
        body = Body(json.dumps({"images": texts}).encode(), RequestOptions(JSON))
        np.testing.assert_array_equal(images_of(body, registry), images)

    @given(
        latents=st.lists(
            st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=20, max_size=20), min_size=1
        )
    )
    def test_latents_arrive_in_single_precision(self, registry: Registry, latents: list[list[float]]) -> None:
        body = Body(json.dumps({"z": latents}).encode(), RequestOptions(JSON))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(
                read_latents(body, registry, SETTINGS, Reservation())[1], np.array(latents, np.float32)
            )


def form(boundary: bytes, parts: list[tuple[bytes, bytes | None, bytes]]) -> bytes:
    """A multipart body of (name, file's name, value)."""
    lines = []
    for name, file, value in parts:
        filename = b"" if file is None else b'; filename="' + file + b'"'
        lines += [b"--" + boundary, b'Content-Disposition: form-data; name="' + name + b'"' + filename, b"", value]
    return b"\r\n".join([*lines, b"--" + boundary + b"--", b""])


class TestMultipart:
    @given(images=images((28, 28)))
    def test_pictures_arrive_as_they_were_sent(self, registry: Registry, images: Images) -> None:
        data = form(b"b", [(b"images", b"p", encoded(image)) for image in images])
        body = Body(data, RequestOptions(MULTIPART, {b"boundary": b"b"}))
        np.testing.assert_array_equal(images_of(body, registry), images)

    @given(
        data=damaged(
            st.lists(
                st.tuples(
                    st.sampled_from([b"images", b"seed", b"sample", b"x"]),
                    st.sampled_from([None, b"", b"p"]),
                    st.sampled_from([*KINDS[:1], b"", b"1", b"true", b"\r\n--b", b"--b--"]),
                ),
                max_size=5,
            ).map(lambda parts: form(b"b", parts))
        ),
        boundary=st.sampled_from([b"b", b"", b"b--", b"c", None]),
    )
    def test_bytes_are_a_form_or_refused(self, registry: Registry, data: bytes, boundary: bytes | None) -> None:
        parameters = {} if boundary is None else {b"boundary": boundary}
        documented(lambda: images_of(Body(data, RequestOptions(MULTIPART, parameters)), registry))


@given(query=st.lists(st.tuples(st.one_of(st.sampled_from(FIELDS), st.text()), st.text()), max_size=4))
def test_a_query_is_options_or_refused(registry: Registry, query: list[tuple[str, str]]) -> None:
    body = Body(codec.npy_bytes(digits()[:1]), RequestOptions(NPY, query=query))
    documented(lambda: images_of(body, registry))
    documented(lambda: parse_images(body, registry, SETTINGS, Reservation(), ScoreOptions, ScoreRequest))


class TestNegotiate:
    @given(st.one_of(st.binary(), st.text("aplictonjsmge/*;q=.,01 x-", max_size=60).map(str.encode)))
    def test_any_header_chooses_what_is_offered_or_is_refused(self, accept: bytes) -> None:
        for offered in (IMAGE_TYPES, LATENT_TYPES):
            chosen = documented(partial(negotiate, accept, offered))
            assert chosen is None or chosen in offered

    @given(st.dictionaries(st.sampled_from(IMAGE_TYPES), st.integers(0, 1000), min_size=1))
    def test_the_type_of_the_highest_quality_is_chosen(self, liked: dict[str, int]) -> None:
        accept = ", ".join(f"{name};q={quality / 1000}" for name, quality in liked.items())
        chosen = documented(lambda: negotiate(accept.encode(), IMAGE_TYPES))
        best = max(liked.values())
        assert liked[chosen] == best if best else chosen is None

    @given(st.text("naif+-_eE0123456789. ", min_size=1, max_size=8))
    def test_a_quality_is_between_0_and_1_or_no_quality(self, quality: str) -> None:
        try:
            number = float(quality)
        except ValueError:
            number = -1
        if not 0 <= number <= 1:
            with pytest.raises(HTTPException) as caught:
                negotiate(f"*/*;q={quality}".encode(), IMAGE_TYPES)
            assert caught.value.status_code == 400
