"""The log of the service: one line per event on standard error, as text or JSON; never a payload, never a key.

A line that cannot be written is counted and dropped. A full disk, a closed pipe or a reader that has stalled costs log
lines, but it never delays or breaks an answer to a client. There is no buffer and no thread.

A line has at most `LINE_BYTES` bytes, the most that a pipe takes atomically, so that lines of several workers do not
mix. It contains no character that a reader could take for the end of a line. Only a traceback in the text format takes
several lines, and all but the first are indented.
"""

from __future__ import annotations

import logging
import re
import select
import sys
import threading
import time
import warnings
from collections.abc import Callable
from functools import lru_cache
from io import FileIO, RawIOBase
from types import TracebackType
from typing import Any, Final, Literal

import orjson

from service.telemetry.record import Record

Format = Literal["text", "json"]

LINE_BYTES: Final = 4096  # PIPE_BUF on Linux
_REQUESTS: Final = "service.requests"

# Characters that end a line for some readers (such as str.splitlines) or control a terminal; and lone surrogates, which
# cannot be encoded.
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # orjson escapes the others


class LogWriter:
    """Writes lines to a stream. It never raises; `lost` counts the lines that could not be written."""

    def __init__(self, stream: RawIOBase) -> None:
        """`stream` has to be unbuffered: a buffer would be written again at exit, and fail again."""
        self._stream = stream
        self.lost = 0
        try:
            self._poll: select.poll | None = select.poll()
            self._poll.register(stream.fileno(), select.POLLOUT)
        except (OSError, ValueError):  # a stream without a file descriptor, as in tests
            self._poll = None

    def write(self, line: bytes) -> None:
        """Write one line, which ends with a newline, unless that would fail or block."""
        try:
            if self._poll is not None and not self._poll.poll(0):
                self.lost += 1  # a full pipe: its reader may never read again
            elif self._stream.write(line) != len(line):
                self.lost += 1
        except (OSError, ValueError):  # ValueError: a closed file
            self.lost += 1


def configure(level: str, form: Format = "text", stream: RawIOBase | None = None) -> LogWriter:
    """Write the records of every logger, also uvicorn's, from `level` ("debug" ... "error") on, to standard error."""
    if stream is None:
        stream = FileIO(2, "wb", closefd=False)
    writer = LogWriter(stream)
    handler = _Handler(writer, form)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return writer


def log_what_python_reports() -> None:
    """Log Python's warnings and uncaught exceptions instead of printing them.

    A warning is logged once for each place in the code that emits it. Python's own rule is once for each text. But
    Pillow's texts depend on the picture, so clients could fill the log, and the memory in which Python stores the
    texts.
    """
    if not sys.warnoptions:  # with -W or PYTHONWARNINGS, the user has chosen
        warnings.simplefilter("always", append=True)
    warnings.showwarning = _warning_logger()
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda failed: _log_uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback)
    sys.unraisablehook = lambda failed: _log_uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback)


def _warning_logger() -> Callable[..., None]:
    known: set[tuple[type[Warning], str, int]] = set()

    def log_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        if (category, filename, lineno) not in known:
            known.add((category, filename, lineno))
            logging.getLogger("py.warnings").warning("%s: %s (%s:%d)", category.__name__, message, filename, lineno)

    return log_warning


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit):  # Ctrl-C during the start; sys.exit in a thread
        return
    logging.getLogger("service").critical(
        "Not caught: %s: %s", kind.__name__, error, exc_info=(kind, error or kind(), trace)
    )


class RequestLog:
    """Writes one line for each request. If requests are not logged, there is None in place of this object.

    A line takes 4 us into a file, and 8 us into a pipe that is being read.
    """

    def __init__(self, writer: LogWriter, form: Format) -> None:
        self._writer = writer
        self._json = form == "json"

    def write(self, record: Record) -> None:
        """Write one request's line."""
        now = _timestamp(time.time())
        if self._json:
            line = orjson.dumps(
                {
                    "time": now,
                    "level": "info",
                    "logger": _REQUESTS,
                    "message": f"{record.method} {record.route} {record.status}",
                    "request_id": record.request_id,
                    "method": record.method,
                    "route": record.route,
                    "status": record.status,
                    "model": record.model or None,
                    "images": record.images,
                    "bytes_in": record.bytes_in,
                    "bytes_out": record.bytes_out,
                    "total_ms": round(record.seconds * 1e3, 3),
                    "read_ms": round(record.read * 1e3, 3),
                    "queue_ms": round(record.queue * 1e3, 3),
                    "compute_ms": round(record.compute * 1e3, 3),
                    "write_ms": round(record.write * 1e3, 3),
                },
                option=orjson.OPT_APPEND_NEWLINE,
            )
        else:
            text = (
                f"{now} INFO {_REQUESTS}: {record.method} {record.route} {record.status} "
                f"request_id={record.request_id} model={record.model or None} images={record.images} "
                f"bytes_in={record.bytes_in} bytes_out={record.bytes_out} total_ms={record.seconds * 1e3:.3f} "
                f"read_ms={record.read * 1e3:.3f} queue_ms={record.queue * 1e3:.3f} "
                f"compute_ms={record.compute * 1e3:.3f} write_ms={record.write * 1e3:.3f}"
            )
            line = (text if text.isprintable() else _UNSAFE.sub(_escaped, text)).encode() + b"\n"
        self._writer.write(line)


class _Handler(logging.Handler):
    """Writes the records of Python's logging, which are all lines but those of requests."""

    def __init__(self, writer: LogWriter, form: Format) -> None:
        super().__init__()
        self._writer = writer
        self._line = _json_line if form == "json" else _text_line

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line of a record. A message that does not match its arguments is written without them."""
        try:
            message = record.getMessage()
        except Exception:  # a bug in a log call must not break a request
            message = str(record.msg)
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        room = LINE_BYTES
        while len(line := self._line(record, message[:room], trace[max(0, len(trace) - room) :])) > LINE_BYTES and room:
            room //= 2  # keep the beginning of the message and the end of the traceback
        self._writer.write(line)


def _json_line(record: logging.LogRecord, message: str, trace: str) -> bytes:
    fields = {
        "time": _timestamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _UNSAFE_IN_JSON.sub(_escaped, message),
    }
    if trace:
        fields["exception"] = _UNSAFE_IN_JSON.sub(_escaped, trace)
    return orjson.dumps(fields) + b"\n"


def _text_line(record: logging.LogRecord, message: str, trace: str) -> bytes:
    line = f"{_timestamp(record.created)} {record.levelname} {record.name}: {_UNSAFE.sub(_escaped, message)}\n"
    return (line + "".join(f"    {_UNSAFE.sub(_escaped, part)}\n" for part in trace.split("\n") if part)).encode()


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _timestamp(seconds: float) -> str:
    """RFC 3339, UTC, to the millisecond."""
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1e3):03d}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
