"""A corpus of hostile pictures, made by code, each with the status that the service should answer.

Some are far larger unpacked than packed, some announce more than they hold, others are only unusual.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from harness.digits import Images, digits, encoded

SIGNATURE = b"\x89PNG\r\n\x1a\n"
DIGIT = digits()[0]


@dataclass(frozen=True)
class Hostile:
    """A picture file, and the status that it is answered with when it is to be resized.

    `pixels` is the model's image that must have been made of it, where the status is 200 and that is known.
    """

    name: str
    data: bytes
    status: int
    pixels: Images | None = None


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    """A PNG's signature and IHDR."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def rows(image: Images) -> bytes:
    """A grey image's rows as PNG filters them: not."""
    return b"".join(b"\0" + row.tobytes() for row in image)


def png(*before: bytes, idat: bytes | None = None, after: bytes = b"", image: Images = DIGIT) -> bytes:
    """A grey PNG with chunks of the test's own before its pixels, bytes after its end, or other pixel data."""
    data = zlib.compress(rows(image)) if idat is None else idat
    start = header(image.shape[1], image.shape[0])
    return start + b"".join(before) + chunk(b"IDAT", data) + chunk(b"IEND", b"") + after


def deflated_zeros(size: int) -> bytes:
    """`size` zero bytes, deflated without ever being in memory together: a thousandth of them."""
    packer = zlib.compressobj(9)
    block = bytes(1_000_000)
    return b"".join(packer.compress(block) for _ in range(size // len(block))) + packer.flush()


def png_bomb(width: int, height: int, depth: int = 8, colour: int = 0, *before: bytes) -> bytes:
    """A PNG whose pixels are all zero: a thousandth of its size unpacked."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    size = height * (1 + (width * samples * depth + 7) // 8)
    pixels = deflated_zeros(size + 1_000_000)
    return header(width, height, depth, colour) + b"".join(before) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


PALETTE = chunk(b"PLTE", bytes(range(256)) * 3) + chunk(b"tRNS", bytes(range(256)))


def exif(orientation: int, *, entries: int = 1) -> bytes:
    """EXIF data that turns a picture."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"II*\0" + struct.pack("<IH", 8, entries) + entry * entries + struct.pack("<I", 0)


def segments(marker: int, payloads: list[bytes]) -> bytes:
    """JPEG marker segments."""
    return b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(payload)) + payload for payload in payloads)


def jpeg(extra: bytes, image: Images = DIGIT) -> bytes:
    """A JPEG with segments of the test's own right after its start."""
    plain = encoded(image, "JPEG")
    return plain[:2] + extra + plain[2:]


def jpeg_of_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times more: a few bytes each, all pixels' work each."""
    plain = encoded(Image.new("L", (side, side), 200), "JPEG", progressive=True)
    last, end = plain.rindex(b"\xff\xda"), plain.rindex(b"\xff\xd9")
    return plain[:end] + plain[last:end] * count + plain[end:]


def lying_jpeg(width: int, height: int) -> bytes:
    """A JPEG that announces another size than it holds."""
    plain = bytearray(encoded(DIGIT, "JPEG"))
    frame = plain.index(b"\xff\xc0")
    plain[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(plain)


def run_length_bmp(width: int, height: int, data: bytes) -> bytes:
    """A BMP in RLE8."""
    palette = bytes(value for grey in range(256) for value in (grey, 0, grey, 0))
    start = 14 + 40 + len(palette)
    information = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + information + palette + data


def large_bmp(width: int, height: int) -> bytes:
    """A BMP that announces another size than it holds."""
    plain = encoded(DIGIT, "BMP")
    return plain[:18] + struct.pack("<ii", width, height) + plain[26:]


def animation(kind: str) -> bytes:
    """A picture of three frames, the first of them the digit."""
    frames = [Image.fromarray(digits()[index]) for index in range(3)]
    options = {"lossless": True} if kind == "WEBP" else {}
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, loop=0, **options)


def zipped() -> bytes:
    """An archive, for a file that is two things at once."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("hello.txt", "hello")
    return stream.getvalue()


def _bombs() -> Iterator[Hostile]:
    text = b"comment\0\0" + deflated_zeros(100_000_000)
    yield Hostile("60000x60000 by its header", header(60_000, 60_000) + chunk(b"IEND", b""), 413)
    yield Hostile("2147483647 wide and high", header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b""), 413)
    yield Hostile("20000x20000 really there", png_bomb(20_000, 20_000, 1), 413)
    yield Hostile("pixels of another size inflate a thousandfold", png(idat=deflated_zeros(100_000_000)), 200)
    yield Hostile("zTXt of 100 MB, compressed", png(chunk(b"zTXt", text)), 422)
    yield Hostile("iTXt of 100 MB, compressed", png(chunk(b"iTXt", b"k\0\1\0\0\0" + text[9:])), 422)
    yield Hostile("iCCP of 100 MB, compressed", png(chunk(b"iCCP", text)), 422)
    yield Hostile("tEXt of 100 MB, raw", png(chunk(b"tEXt", b"comment\0" + bytes(100_000_000))), 413)
    yield Hostile("WebP of 16383x16383", lying_webp(16_383, 16_383), 413)
    yield Hostile("GIF of 65535x65535", b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + b"\0" * 6, 422)
    yield Hostile("GIF frame of 65535x65535", gif_frame(65_535, 65_535), 413)
    yield Hostile("BMP of 2 billion rows", large_bmp(2**31 - 1, 2**31 - 1), 413)
    yield Hostile("JPEG of 65500x65500", lying_jpeg(65_500, 65_500), 413)


def lying_webp(width: int, height: int) -> bytes:
    """A lossless WebP whose header announces another size."""
    plain = bytearray(encoded(DIGIT, "WEBP", lossless=True))
    assert plain[12:16] == b"VP8L"
    bits = (width - 1) | (height - 1) << 14
    plain[21:25] = struct.pack("<I", bits | struct.unpack("<I", plain[21:25])[0] & 0xF0000000)
    return bytes(plain)


def gif_frame(width: int, height: int) -> bytes:
    """A GIF of 1x1 whose frame is larger than it."""
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame + b"\x02\x02\x44\x01\0;"


def _broken() -> Iterator[Hostile]:
    good = png()
    yield Hostile("PNG with a wrong CRC in IHDR", good[:29] + bytes(4) + good[33:], 422)
    yield Hostile("PNG with a wrong CRC in IDAT", good[:-16] + bytes(4) + good[-12:], 422)
    yield Hostile("PNG of 0x0", header(0, 0) + good[33:], 422)
    yield Hostile("PNG of 28x0", header(28, 0) + good[33:], 422)
    yield Hostile("PNG that announces more rows than it has", header(28, 2800) + good[33:], 200)
    yield Hostile("PNG that announces colour and is grey", header(28, 28, 8, 2) + good[33:], 422)
    yield Hostile("PNG of an unknown colour type", header(28, 28, 8, 5) + good[33:], 422)
    yield Hostile("PNG with a palette it has not", header(28, 28, 8, 3) + good[33:], 200)
    yield Hostile("PNG without pixels", header(28, 28) + chunk(b"IEND", b""), 422)
    yield Hostile("PNG with an unknown filter", png(idat=zlib.compress(rows(DIGIT).replace(b"\0", b"\x09", 1))), 422)
    yield Hostile("PNG whose pixels are no deflate stream", png(idat=b"nonsense"), 422)
    yield Hostile("PNG with a chunk of 4 GB", header(28, 28) + b"\xff\xff\xff\xfftEXt" + good[33:], 422)
    yield Hostile("PNG with a chunk of no name", header(28, 28) + chunk(b"\0\0\0\0", b"") + good[33:], 422)
    yield Hostile("JPEG without a frame", b"\xff\xd8\xff\xd9", 422)
    yield Hostile("JPEG with a segment of length 0", jpeg(b"\xff\xe1\0\0"), 200)
    yield Hostile("JPEG that announces a larger picture", lying_jpeg(280, 280), 200)
    yield Hostile("WebP of a wrong size", lying_webp(280, 280), 422)
    yield Hostile("GIF without a frame", encoded(DIGIT, "GIF")[:-40], 422)
    yield Hostile("GIF of 0x0", b"GIF89a" + bytes(7) + b",\0\0\0\0\0\0\0\0\0\x02\0;", 422)
    yield Hostile("BMP of no known header", b"BM" + bytes(200), 422)


def _slow() -> Iterator[Hostile]:
    """Files in which each byte is work."""
    tiny = chunk(b"prVt", b"")
    yield Hostile("JPEG of a thousand scans", jpeg_of_scans(2_000, 1_000), 422)
    yield Hostile("JPEG of 100,000 comments", jpeg(segments(0xFE, [b"c"] * 100_000)), 422)
    yield Hostile("JPEG with its EXIF in 20,000 pieces", jpeg(segments(0xE1, [b"Exif\0\0" + bytes(40)] * 20_000)), 422)
    yield Hostile("JPEG with a megabyte between its segments", jpeg(bytes(1_000_000)), 422)
    yield Hostile("GIF with a megabyte between its blocks", gif_of_blocks(bytes(1_000_000)), 422)
    yield Hostile("PNG of 100,000 empty chunks", png(tiny * 100_000), 422)
    yield Hostile("PNG of 100,000 empty chunks after its pixels", png()[:-12] + tiny * 100_000 + png()[-12:], 422)
    yield Hostile("PNG of 1,000 profiles of 1 MB", png(chunk(b"iCCP", b"p\0\0" + deflated_zeros(10**6)) * 1_000), 422)
    yield Hostile("GIF of 500,000 comments", gif_of_blocks(b"!\xfe\x01c\0" * 500_000), 422)
    yield Hostile("BMP in RLE, without an end", run_length_bmp(4_000, 4_000, bytes(2_000_000)), 422)
    yield Hostile("BMP in RLE, one long row", run_length_bmp(20_000_000, 1, b"\1\1\0\0\0\1"), 422)


def gif_of_blocks(blocks: bytes) -> bytes:
    """A GIF with blocks of the test's own before its picture."""
    plain = encoded(DIGIT, "GIF")
    start = 13 + (3 << (plain[10] & 7) + 1)
    return plain[:start] + blocks + plain[start:]


def _strange() -> Iterator[Hostile]:
    """Pictures that are only unusual: they are read, and what is made of them is known where it can be."""
    grey = Image.fromarray(DIGIT)
    turned = np.ascontiguousarray(np.rot90(DIGIT))  # what orientation 6 turns back
    paletted = grey.convert("P")
    see_through = np.zeros((28, 28, 4), np.uint8)
    see_through[..., 3] = 128
    yield Hostile("1x1", png(image=np.full((1, 1), 9, np.uint8)), 200, np.full((28, 28), 9, np.uint8))
    yield Hostile("60000x1", png(image=np.full((1, 60_000), 9, np.uint8)), 200)
    yield Hostile("1x60000", png(image=np.full((60_000, 1), 9, np.uint8)), 200)
    yield Hostile("CMYK JPEG", encoded(grey.convert("CMYK"), "JPEG"), 200)
    yield Hostile("16-bit grey PNG", encoded(Image.fromarray(DIGIT.astype(np.uint16) * 257)), 200, DIGIT)
    yield Hostile("1-bit PNG", encoded(grey.convert("1")), 200)
    yield Hostile("palette PNG", encoded(paletted), 200, DIGIT)
    yield Hostile("palette PNG, all transparent", encoded(paletted, transparency=bytes(256)), 200, DIGIT * 0)
    yield Hostile("grey PNG with a transparent level", encoded(grey, transparency=0), 200, DIGIT)
    yield Hostile("half transparent white", encoded(Image.fromarray(see_through + 127)), 200)
    yield Hostile("animated GIF", animation("GIF"), 200, DIGIT)
    yield Hostile("animated WebP", animation("WEBP"), 200, DIGIT)
    yield Hostile("animated PNG", animation("PNG"), 200, DIGIT)
    yield Hostile("PNG and ZIP at once", png(after=zipped()), 200, DIGIT)
    yield Hostile("GIF and HTML at once", encoded(DIGIT, "GIF") + b"<script>alert(1)</script>", 200, DIGIT)
    yield Hostile(
        "PNG with garbage after its pixels' end", png(idat=zlib.compress(rows(DIGIT)) + b"x" * 99), 200, DIGIT
    )
    yield Hostile("PNG with more rows than announced", png(idat=zlib.compress(rows(DIGIT) * 2)), 200, DIGIT)
    yield Hostile("PNG in IDATs of one byte", png_in_bytes(), 200, DIGIT)
    yield Hostile("PNG turned by its EXIF", png(chunk(b"eXIf", exif(6)), image=turned), 200, DIGIT)
    yield Hostile("PNG turned to nowhere", png(chunk(b"eXIf", exif(9))), 200, DIGIT)
    yield Hostile("PNG with a profile that is none", png(chunk(b"iCCP", b"p\0\0" + zlib.compress(b"none"))), 200, DIGIT)
    yield Hostile("PNG with a profile that is not even packed", png(chunk(b"iCCP", b"p\0\0none")), 200, DIGIT)
    yield Hostile("JPEG with a broken profile", jpeg(segments(0xE2, [b"ICC_PROFILE\0\7\1x"])), 200)
    yield Hostile("JPEG with nothing in its EXIF", jpeg(segments(0xE1, [b"Exif\0\0"])), 200)
    for orientation in range(1, 9):
        yield Hostile(
            f"JPEG with orientation {orientation}", encoded(DIGIT, "JPEG", exif=b"Exif\0\0" + exif(orientation)), 200
        )


def png_in_bytes() -> bytes:
    """A PNG whose every byte of pixel data is a chunk of its own."""
    pixels = b"".join(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(rows(DIGIT)))
    return header(28, 28) + pixels + chunk(b"IEND", b"")


def _refused() -> Iterator[Hostile]:
    """Formats that stay closed, and what is no picture at all."""
    for kind in ("AVIF", "ICO", "PPM", "TGA", "PCX", "PDF", "EPS", "DIB", "SGI", "JPEG2000", "ICNS"):
        yield Hostile(kind, encoded(Image.fromarray(DIGIT).resize((32, 32)), kind), 422)
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='28' height='28'><image href='file:///etc/passwd'/></svg>"
    yield Hostile("SVG", svg, 422)
    yield Hostile("HTML", b"<!doctype html><img src=x>", 422)
    yield Hostile("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n(%pipe%id) (r) file\n", 422)
    yield Hostile("ZIP", zipped(), 422)
    yield Hostile("nothing", b"", 422)
    yield Hostile("zeros", bytes(10_000), 422)


def hostile_tiffs() -> Iterator[Hostile]:
    """TIFF files: a directory is a list of numbers, and each of them may be anything."""
    yield Hostile("TIFF of 65535x65535 that holds 784 pixels", tiff(width=65_535, height=65_535), 422)
    yield Hostile("TIFF of 2 billion rows, each a strip", tiff(height=2**31 - 1, rows=1), 422)
    yield Hostile("TIFF of 0x0", tiff(width=0, height=0), 422)
    yield Hostile("TIFF whose directory is beyond its end", b"II*\0" + b"\xff" * 4, 422)
    yield Hostile("TIFF whose directory comes after itself", tiff(following=8), 200, DIGIT)
    yield Hostile("TIFF whose pixels are beyond its end", tiff(offsets=(2**32 - 1,)), 422)
    yield Hostile("TIFF of 65,000 tags", tiff(more=((40_000, 1, 4, 0),) * 65_000), 422)
    yield Hostile("TIFF with a tag of 4 billion fractions", tiff(more=((700, 5, 2**32 - 1, 8),)), 200, DIGIT)
    yield Hostile("TIFF whose EXIF is its directory", tiff(more=((34_665, 4, 1, 8),)), 200, DIGIT)
    yield Hostile("TIFF of 28 rows in one place", tiff(offsets=(8,) * 28, counts=(784,) * 28, rows=1), 422)
    yield Hostile("TIFF with a tile of 65536x65536", tiff(more=((322, 4, 1, 65_536), (323, 4, 1, 65_536))), 200, DIGIT)
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        yield Hostile(f"TIFF with {compression}", encoded(DIGIT, "TIFF", compression=compression), 422)


def tiff(
    *,
    width: int = 28,
    height: int = 28,
    rows: int = 28,
    offsets: tuple[int, ...] = (),
    counts: tuple[int, ...] = (784,),
    more: tuple[tuple[int, int, int, int], ...] = (),
    following: int = 0,
) -> bytes:
    """A grey TIFF of the digit, with values of the test's own, and `more` entries: tag, type, count and value.

    Its directory is at 8, and the pixels come last.
    """
    end = 8 + 2 + 12 * (8 + len(more)) + 4
    offsets = offsets or (end,)
    data = struct.pack(f"<{2 * len(offsets)}L", *offsets, *counts) if len(offsets) > 1 else b""
    where = (end, end + 4 * len(offsets)) if data else (*offsets, *counts)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, len(offsets), where[0]), (278, 4, 1, rows), (279, 4, len(counts), where[1]), *more]
    fields = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    start = struct.pack("<4sLH", b"II*\0", 8, len(tags))
    return b"".join((start, fields, struct.pack("<L", following), data, DIGIT.tobytes()))


@cache
def hostile_pictures() -> tuple[Hostile, ...]:
    """The whole corpus but for what is cut short, which `cut_short` makes."""
    return (*_bombs(), *_broken(), *_slow(), *_strange(), *_refused(), *hostile_tiffs())


def largest_pictures() -> tuple[Hostile, ...]:
    """Pictures of just as many pixels as the default settings allow, in the modes that take the most memory."""
    side = 5_000
    blank = Image.new("L", (side, side), 200)
    bombs = {
        "grey PNG": png_bomb(side, side),
        "palette PNG with transparency, turned": png_bomb(side, side, 8, 3, PALETTE, chunk(b"eXIf", exif(6))),
        "16-bit grey PNG": png_bomb(side, side, 16),
        "16-bit RGBA PNG": png_bomb(side, side, 16, 6),
        "progressive JPEG": encoded(blank.convert("RGB"), "JPEG", progressive=True),
        "CMYK JPEG": encoded(blank.convert("CMYK"), "JPEG"),
        "WebP": encoded(blank, "WEBP", method=0),
        "GIF": encoded(blank, "GIF"),
        "1-bit TIFF": encoded(blank.convert("1"), "TIFF"),
    }
    return tuple(Hostile(f"{name} of {side}x{side}", data, 200) for name, data in bombs.items())


@cache
def cut_short(kind: str) -> tuple[bytes, ...]:
    """A good picture of a kind, cut short at every byte, and last in full."""
    whole = encoded(DIGIT, kind)
    return tuple(whole[:length] for length in range(len(whole) + 1))
