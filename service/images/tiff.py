"""TIFF files (TIFF 6.0, Adobe, 1992), as far as the work and the memory of reading one follow from its directory.

The directory is read and checked here, and Pillow gets the same pixels with a new one, which has nothing but what was
checked. So it meets no other directory, no tag of a megabyte, no tile that is larger than the picture, and no strip
that is read twice. Only uncompressed files are read: Pillow decodes the others with libtiff, which writes a line to
standard error for each damaged file, and waits there if nobody reads it.
"""

from __future__ import annotations

import struct
from typing import Final

# The strips of one picture. Some programs write one for each row.
MOST_STRIPS: Final = 10_000

# The entries of a directory. Real ones have tens of them.
_MOST_ENTRIES: Final = 1_000

_ORDERS: Final = {b"II*\0": "<", b"MM\0*": ">"}

# Tags by their numbers in the specification, in order.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS, _PLANES = 273, 274, 277, 278, 279, 284
_PALETTE, _EXTRA, _SAMPLE_FORMAT = 320, 338, 339

# The most values of each tag that is read.
_MOST_VALUES: Final = {
    **dict.fromkeys((_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _ORIENTATION, _SAMPLES, _ROWS), 1),
    _PLANES: 1,
    **dict.fromkeys((_BITS, _EXTRA, _SAMPLE_FORMAT), 4),
    **dict.fromkeys((_OFFSETS, _COUNTS), MOST_STRIPS),
    _PALETTE: 3 * 256,
}

# struct's letters for the types that hold counts: SHORT and LONG.
_LETTERS: Final = {3: "H", 4: "L"}

_UNCOMPRESSED: Final = 1

# White is zero, black is zero, RGB, palette, CMYK.
_WHITE_IS_ZERO: Final = 0
_PHOTOMETRICS: Final = (_WHITE_IS_ZERO, 1, 2, 3, 5)

_UNSUPPORTED: Final = (
    "TIFF files are read if they are uncompressed, in strips, of at most 16 bits: grey, RGB, CMYK or with a palette."
)
_DAMAGED: Final = "The picture is damaged: its TIFF directory does not fit its pixels."

# The values of a tag, and struct's letter for their type.
_Tags = dict[int, tuple[str, tuple[int, ...]]]


def is_tiff(file: bytes) -> bool:
    """Whether a file says that it is a TIFF file."""
    return file[:4] in _ORDERS


def plain_tiff(file: bytes) -> bytes:
    """The first picture of a TIFF file as a file of its own, with the tags that say how to decode it and no other.

    The file's bytes stay where they are, and the new directory comes after them. Raises ValueError, with one sentence,
    for a file whose pixels are stored in a way that is not read, and for a damaged one.
    """
    order = _ORDERS[file[:4]]
    try:
        tags = _read_tags(file, order)
    except struct.error as error:  # an offset beyond the end
        raise ValueError(_DAMAGED) from error
    _check(tags, len(file))
    return _with_directory(file, order, tags)


def _read_tags(file: bytes, order: str) -> _Tags:
    (start,) = struct.unpack_from(f"{order}L", file, 4)
    (entries,) = struct.unpack_from(f"{order}H", file, start)
    if entries > _MOST_ENTRIES:
        raise ValueError("The picture has too many TIFF tags.")
    tags: _Tags = {}
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f"{order}HHL", file, place)
        if tag not in _MOST_VALUES or tag in tags:
            continue
        letter, most = _LETTERS.get(kind), _MOST_VALUES[tag]
        if letter is None or not 1 <= count <= most:
            raise ValueError(_UNSUPPORTED)
        form = f"{order}{count}{letter}"
        at = place + 8
        if struct.calcsize(form) > 4:
            (at,) = struct.unpack_from(f"{order}L", file, at)
        tags[tag] = letter, struct.unpack_from(form, file, at)
    return tags


def _check(tags: _Tags, length: int) -> None:
    """Raise ValueError unless the pixels of such a file, of `length` bytes, can be decoded within its bounds."""

    def one(tag: int, default: int) -> int:
        return tags[tag][1][0] if tag in tags else default

    def several(tag: int) -> tuple[int, ...]:
        return tags[tag][1] if tag in tags else ()

    width, height = one(_WIDTH, 0), one(_HEIGHT, 0)
    samples, bits, photometric = one(_SAMPLES, 1), several(_BITS) or (1,), one(_PHOTOMETRIC, _WHITE_IS_ZERO)
    if (
        one(_COMPRESSION, _UNCOMPRESSED) != _UNCOMPRESSED
        or photometric not in _PHOTOMETRICS
        or not 1 <= samples <= 4
        or bits[0] not in (1, 2, 4, 8, 16)
        or len(set(bits)) > 1
        or (photometric == _WHITE_IS_ZERO and bits[0] == 16)  # Pillow would not invert it
        or one(_PLANES, 1) != 1
        or any(kind != 1 for kind in several(_SAMPLE_FORMAT))
        or not {_OFFSETS, _COUNTS} <= tags.keys()
    ):
        raise ValueError(_UNSUPPORTED)
    rows = min(one(_ROWS, height), height)
    offsets, counts = several(_OFFSETS), several(_COUNTS)
    if min(width, height, rows) < 1 or not len(offsets) == len(counts) == -(-height // rows):
        raise ValueError(_DAMAGED)
    row_bytes = (width * samples * bits[0] + 7) // 8
    for number, (offset, count) in enumerate(zip(offsets, counts, strict=True)):
        if offset + count > length or count < row_bytes * min(rows, height - number * rows):
            raise ValueError(_DAMAGED)
    if sum(counts) > length:  # the same bytes are not read again and again
        raise ValueError(_DAMAGED)


def _with_directory(file: bytes, order: str, tags: _Tags) -> bytes:
    """The file with a directory of these tags in place of its own."""
    padding = bytes(len(file) % 2)
    start = len(file) + len(padding)
    place = start + 2 + 12 * len(tags) + 4  # of the values that are too long for an entry
    entries, values = [struct.pack(f"{order}H", len(tags))], []
    kinds = {letter: kind for kind, letter in _LETTERS.items()}
    for tag, (letter, found) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(found)}{letter}", *found)
        field = packed.ljust(4, b"\0")
        if len(packed) > 4:
            field = struct.pack(f"{order}L", place)
            packed += bytes(len(packed) % 2)
            values.append(packed)
            place += len(packed)
        entries.append(struct.pack(f"{order}HHL", tag, kinds[letter], len(found)) + field)
    head = file[:4] + struct.pack(f"{order}L", start)
    return b"".join([head, memoryview(file)[8:], padding, *entries, bytes(4), *values])
