"""How the service logs: one line an event on standard error, as text or JSON; never a payload, never a key.

A line that cannot be written is counted and given up: a full disk, a closed pipe or a reader that has stalled takes log
lines from an operator, but no answer from a client. There is no buffer to fill and no thread to wait for.

A line has at most `LINE_BYTES` bytes, the most that a pipe takes in one piece, so that the workers' lines do not mix.
Within it nothing is left that a reader could take for the end of a line. Only a traceback in text takes several lines,
and all but its first are indented.
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

# What ends a line for some reader (str.splitlines is one) or steers a terminal; and half a surrogate pair, which no
# encoding has a place for.
_UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_IN_JSON: Final = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # orjson escapes the others


class Sink:
    """Where lines go. Nothing that goes wrong with it is anybody's problem; `lost` counts the lines."""

    def __init__(self, stream: RawIOBase) -> None:
        """`stream` is unbuffered: what a buffer holds back would be tried again, and fail again, at exit."""
        self._stream = stream
        self.lost = 0
        try:
            self._poll: select.poll | None = select.poll()
            self._poll.register(stream.fileno(), select.POLLOUT)
        except (OSError, ValueError):  # a stream that is no file, as in a test
            self._poll = None

    def write(self, line: bytes) -> None:
        """Write one line, its end included, unless that would fail or take long."""
        try:
            if self._poll is not None and not self._poll.poll(0):
                self.lost += 1  # a pipe that is full: its reader may be gone for good
            elif self._stream.write(line) != len(line):
                self.lost += 1
        except (OSError, ValueError):  # ValueError: a closed file
            self.lost += 1


def configure(level: str, form: Format = "text", stream: RawIOBase | None = None) -> Sink:
    """Send every logger's lines, uvicorn's too, to standard error from `level` ("debug" ... "error") up."""
    if stream is None:
        stream = FileIO(2, "wb", closefd=False)
    sink = Sink(stream)
    handler = _Handler(sink, form)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    return sink


def log_what_python_reports() -> None:
    """Have Python's warnings, and exceptions that nobody catches, logged instead of printed.

    A warning is logged once for each place in the code that gives it. Odd pictures make Pillow warn in ever new words,
    so Python's own rule, once for each text, would let clients fill the log, and the memory that Python keeps for it.
    """
    if not sys.warnoptions:  # else whoever started this process has chosen
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
    if issubclass(kind, KeyboardInterrupt | SystemExit):  # Ctrl-C before the server runs; the end of a thread
        return
    logging.getLogger("service").critical(
        "Not caught: %s: %s", kind.__name__, error, exc_info=(kind, error or kind(), trace)
    )


class RequestLog:
    """A line for each request. Who wants none has None in this one's place, and tests for that, which is free.

    A line takes 4 us into a file, 8 into a pipe that is being read.
    """

    def __init__(self, sink: Sink, form: Format) -> None:
        self._sink = sink
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
        self._sink.write(line)


class _Handler(logging.Handler):
    """Everything else that is logged."""

    def __init__(self, sink: Sink, form: Format) -> None:
        super().__init__()
        self._sink = sink
        self._line = _json_line if form == "json" else _text_line

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's line. A message that does not go with its arguments is written as it is."""
        try:
            message = record.getMessage()
        except Exception:  # a mistake in a log call must not become one in a request
            message = str(record.msg)
        trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
        room = LINE_BYTES
        while len(line := self._line(record, message[:room], trace[max(0, len(trace) - room) :])) > LINE_BYTES and room:
            room //= 2  # of a message its beginning matters, of a traceback its end
        self._sink.write(line)


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
