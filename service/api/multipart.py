"""A multipart/form-data body (RFC 7578): its fields, and the pictures in its field `images`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser
from starlette.exceptions import HTTPException

from service.api.request_head import MULTIPART
from service.errors import Fault, InvalidInput

# The parser copies what it is given, part by part; so it is given the body in pieces.
_PIECE: Final = 256 * 1024


def read_multipart(
    data: bytes,
    parameters: Mapping[bytes, bytes],
    check: Callable[[list[tuple[str, str]], int], None],
) -> tuple[list[tuple[str, str]], list[bytes]]:
    """The fields of a multipart body other than `images`, and the pictures in `images`, all in memory.

    `parameters` are those of its Content-Type. `check` is called with the fields and the number of pictures after each
    part and raises when they cannot be used, so that a body of a hundred thousand small parts is not read to its end.
    Raises HTTPException (400) when the body breaks its own format, InvalidInput for a file in another field.
    """
    fields: list[tuple[str, str]] = []
    pictures: list[bytes] = []
    ended = False

    def on_field(field: Field) -> None:
        name, value = (field.field_name or b"").decode("utf-8", "replace"), field.value or b""
        if name == "images":
            pictures.append(value)
        else:
            fields.append((name, value.decode("utf-8", "replace")))
        check(fields, len(pictures))

    def on_file(file: File) -> None:
        if file.field_name != b"images":
            name = (file.field_name or b"").decode("utf-8", "replace")
            raise InvalidInput([Fault((name,), "Pictures belong into the field images.")])
        pictures.append(file.file_object.getvalue())  # type: ignore[union-attr]  # in memory, as configured below
        check(fields, len(pictures))

    def on_end() -> None:
        nonlocal ended
        ended = True

    try:
        if b"boundary" not in parameters:
            raise FormParserError  # the parser would raise it too, and log it as an error of the service
        parser = FormParser(
            MULTIPART,
            on_field,
            on_file,
            on_end,
            boundary=parameters[b"boundary"],
            # The body is in memory and within its limit already; a second copy on disk would need a disk to write to.
            config={"MAX_MEMORY_FILE_SIZE": float("inf"), "UPLOAD_ERROR_ON_BAD_CTE": True},
        )
        for start in range(0, len(data), _PIECE):
            parser.write(data[start : start + _PIECE])
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, "The body is not multipart/form-data as its Content-Type announces it.") from error
    if not ended:  # the parser says nothing about a body that stops midway, and its last picture would be lost
        raise HTTPException(400, "The multipart body ends before its closing boundary.")
    return fields, pictures
