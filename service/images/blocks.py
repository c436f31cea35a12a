"""Refuse picture files that are built to be slow to read. Their blocks are counted before any of them is decoded.

The header of a file gives its number of pixels, but not the amount of work: a JPEG of 50 kB may contain a thousand
scans of all its pixels, a GIF may begin with a million comments, a PNG with a thousand colour profiles of a megabyte
each. No camera and no program writes such files. Counting blocks needs little time and no memory.
"""

from __future__ import annotations

import re
from typing import Final

from zlib_ng.zlib_ng import crc32

# A progressive JPEG has about ten scans. Each one processes all pixels again.
_MOST_SCANS: Final = 64
# JPEG segments, and PNG chunks without pixels. Real files have tens of them.
_MOST_BLOCKS: Final = 1_000
# Blocks before the picture in a GIF. XMP text among them counts as hundreds.
_MOST_GIF_BLOCKS: Final = 10_000
# PNG chunks with pixels. Some programs write chunks of only a kilobyte.
_MOST_PIXEL_CHUNKS: Final = 20_000

# In the pixels of a JPEG, 0xFF is followed by 0, by a restart marker (D0 to D7) or by another 0xFF. Any other byte
# after 0xFF begins a segment.
_JPEG_MARKER: Final = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_PIXEL_CHUNKS: Final = (b"IDAT", b"fdAT", b"fcTL")

# The first brand of an AVIF or HEIF file. Its header may give another size than the video frame inside it: libavif
# decodes the frame, whatever that takes, and scales it to the header's size.
_HEIF_BRANDS: Final = (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"hevc")


def check_blocks(file: bytes) -> None:
    """Raise ValueError when a picture file has too many blocks, or a wrong checksum of PNG pixels.

    Other errors in a file are found by its decoder.
    """
    if file.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(file)
    elif file.startswith(b"\xff\xd8"):
        _check_jpeg(file)
    elif file.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(file)
    elif file[4:8] == b"ftyp" and file[8:12] in _HEIF_BRANDS:
        raise ValueError("AVIF and HEIF files are not read: their headers do not bound the work. Send a PNG or a JPEG.")


def _check_png(file: bytes) -> None:
    view = memoryview(file)
    start, others, pixels = 8, 0, 0
    while start + 12 <= len(file):
        length, kind = int.from_bytes(file[start : start + 4], "big"), file[start + 4 : start + 8]
        end = start + 8 + length
        if kind in _PIXEL_CHUNKS:
            pixels += 1
            # Pillow does not check these, and would accept a damaged picture.
            checksum = file[end : end + 4]
            if len(checksum) == 4 and crc32(view[start + 4 : end]) != int.from_bytes(checksum, "big"):
                raise ValueError("The picture is damaged: a checksum of its pixels is wrong.")
        else:
            others += 1
            if kind == b"tRNS" and pixels:  # Pillow would read it when memory for a picture without it is reserved
                raise ValueError("The picture is damaged: its transparency comes after its pixels.")
        if others > _MOST_BLOCKS or pixels > _MOST_PIXEL_CHUNKS:
            raise _too_many("PNG chunks")
        if kind == b"IEND":
            return
        start = end + 4


def _check_jpeg(file: bytes) -> None:
    start = junk = scans = 0
    for _ in range(_MOST_BLOCKS):
        marker = _JPEG_MARKER.search(file, start)
        if scans == 0:  # Pillow reads bytes between the first segments one by one
            junk += (marker.start() if marker else len(file)) - start
        if junk > _MOST_BLOCKS:
            raise _too_many("bytes outside its JPEG segments")
        if marker is None or marker[1] == b"\xd9":
            return
        start = marker.end()
        if marker[1] not in (b"\x01", b"\xd8"):  # these two markers have no length
            start += int.from_bytes(file[start : start + 2], "big")
        scans += marker[1] == b"\xda"
        if scans > _MOST_SCANS:
            raise _too_many("JPEG scans")
    raise _too_many("JPEG segments")


def _check_gif(file: bytes) -> None:
    start, inside = 13 + _palette_bytes(file[10:11]), False
    for _ in range(_MOST_GIF_BLOCKS):
        byte = file[start : start + 1]
        if not byte:
            return
        if inside:  # an extension: sub-blocks, each after its length; an empty one ends it
            inside = byte != b"\0"
            start += 1 + byte[0]
        elif byte == b"!":
            inside = True
            start += 2
        elif byte in b",;":
            return
        else:  # an unknown byte, which Pillow skips
            start += 1
    raise _too_many("GIF blocks")


def _palette_bytes(flags: bytes) -> int:
    """The size of a GIF's palette in bytes, from its flags byte."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _too_many(what: str) -> ValueError:
    return ValueError(f"The picture has too many {what}.")
