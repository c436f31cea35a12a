"""What a picture file may cost its reader, found by a walk over its blocks before any of them is read.

A file's header says how many pixels it has, but not how much work it is: a JPEG of 50 kB may go over its pixels a
thousand times, a GIF may begin with a million comments, a PNG with a thousand profiles of a megabyte each. No camera
and no program writes such files; each is refused here by a count, for the time and the memory of the count alone.
"""

from __future__ import annotations

import re
from typing import Final

from zlib_ng.zlib_ng import crc32

# A progressive JPEG has about ten scans, and each goes over all pixels again.
_MOST_SCANS: Final = 64
# JPEG segments, and PNG chunks other than pixels: tens, in files from real life.
_MOST_BLOCKS: Final = 1_000
# Blocks before a GIF's picture: XMP text that lies among them reads as hundreds.
_MOST_GIF_BLOCKS: Final = 10_000
# PNG chunks of pixels: some writers make them as small as a kilobyte.
_MOST_PIXEL_CHUNKS: Final = 20_000

# In JPEG's pixels 0xFF is followed by 0, by a restart (D0 to D7) or by another 0xFF; anything else begins a segment.
_JPEG_MARKER: Final = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
_PIXEL_CHUNKS: Final = (b"IDAT", b"fdAT", b"fcTL")


def check_blocks(file: bytes) -> None:
    """Raise ValueError when a picture file is built to be far more work than its pixels, or its PNG chunks are damaged.

    What else is wrong with a file, its decoder will find.
    """
    if file.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(file)
    elif file.startswith(b"\xff\xd8"):
        _check_jpeg(file)
    elif file.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(file)


def _check_png(file: bytes) -> None:
    view = memoryview(file)
    start, others, pixels = 8, 0, 0
    while start + 12 <= len(file):
        length, kind = int.from_bytes(file[start : start + 4], "big"), file[start + 4 : start + 8]
        end = start + 8 + length
        if kind in _PIXEL_CHUNKS:
            pixels += 1
            # Pillow passes over these checksums, and would take a damaged picture for a whole one.
            checksum = file[end : end + 4]
            if len(checksum) == 4 and crc32(view[start + 4 : end]) != int.from_bytes(checksum, "big"):
                raise ValueError("The picture is damaged: a checksum of its pixels is wrong.")
        else:
            others += 1
        if others > _MOST_BLOCKS or pixels > _MOST_PIXEL_CHUNKS:
            raise _too_many("PNG chunks")
        if kind == b"IEND":
            return
        start = end + 4


def _check_jpeg(file: bytes) -> None:
    start = junk = scans = 0
    for _ in range(_MOST_BLOCKS):
        marker = _JPEG_MARKER.search(file, start)
        if scans == 0:  # Pillow reads what lies between the segments of the head byte by byte
            junk += (marker.start() if marker else len(file)) - start
        if junk > _MOST_BLOCKS:
            raise _too_many("bytes outside its JPEG segments")
        if marker is None or marker[1] == b"\xd9":
            return
        start = marker.end()
        if marker[1] not in (b"\x01", b"\xd8"):  # these two have no length
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
        if inside:  # an extension: pieces, each after its length, until an empty one
            inside = byte != b"\0"
            start += 1 + byte[0]
        elif byte == b"!":
            inside = True
            start += 2
        elif byte in b",;":
            return
        else:  # junk, which Pillow passes over
            start += 1
    raise _too_many("GIF blocks")


def _palette_bytes(flags: bytes) -> int:
    """How many bytes a GIF's palette takes, by the byte that announces it."""
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _too_many(what: str) -> ValueError:
    return ValueError(f"The picture has too many {what}.")
