from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness.paths import ROOT
from harness.records import encoded_two
from service.telemetry.logs import LINE_BYTES, Format, LogWriter, RequestLog, configure

NASTY = "a\nb\r\x1b[31m\x00\x85\u2028\u2029\x7f\ud800é\U0001f600"


class Stream(io.RawIOBase):
    """A stream that keeps the lines written to it, or fails each time with an OSError."""

    def __init__(self, number: int | None = None) -> None:
        self.lines: list[bytes] = []
        self.number = number
        self.tried = 0

    def write(self, line: bytes) -> int:  # type: ignore[override]
        self.tried += 1
        if self.number is not None:
            raise OSError(self.number, os.strerror(self.number))
        self.lines.append(line)
        return len(line)

    def only(self) -> bytes:
        (line,) = self.lines
        return line


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Restore pytest's handlers after each test, because the tests configure the root logger."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    yield
    root.handlers, root.level = handlers, level


def write_one(log: RequestLog, request_id: str = "abc") -> None:
    log.write(encoded_two(request_id=request_id, write=13.4e-6))


class TestJson:
    """VAE_LOG_FORMAT=json."""

    def test_a_line_has_time_level_logger_and_message(self) -> None:
        stream = Stream()
        configure("info", "json", stream)
        logging.getLogger("service.some.module").warning("Serving %s.", "mnist")
        fields = json.loads(stream.only())
        moment = datetime.fromisoformat(fields.pop("time"))
        assert moment.utcoffset() == timedelta(0)
        assert abs(moment.timestamp() - datetime.now().timestamp()) < 60
        assert fields == {"level": "warning", "logger": "service.some.module", "message": "Serving mnist."}

    def test_an_exception_is_one_field(self) -> None:
        stream = Stream()
        configure("info", "json", stream)
        try:
            raise ZeroDivisionError("so\nsad")
        except ZeroDivisionError:
            logging.getLogger("service").exception("Failed.")
        fields = json.loads(stream.only())
        assert fields["exception"].startswith("Traceback")
        assert fields["exception"].endswith("ZeroDivisionError: so\nsad")
        assert stream.only().count(b"\n") == 1

    def test_a_request_has_its_sizes_and_its_times(self) -> None:
        stream = Stream()
        write_one(RequestLog(LogWriter(stream), "json"))
        fields = json.loads(stream.only())
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
        assert fields == {
            "level": "info",
            "logger": "service.requests",
            "message": "POST /encode 200",
            "request_id": "abc",
            "method": "POST",
            "route": "/encode",
            "status": 200,
            "model": "mnist-mlp@1",
            "images": 2,
            "bytes_in": 512,
            "bytes_out": 834,
            "total_ms": 0.07,
            "read_ms": 0.012,
            "queue_ms": 0.002,
            "compute_ms": 0.034,
            "write_ms": 0.013,
        }


class TestText:
    """VAE_LOG_FORMAT=text."""

    def test_a_line_has_time_level_logger_and_message(self) -> None:
        stream = Stream()
        configure("info", "text", stream)
        logging.getLogger("service.some.module").warning("Serving %s.", "mnist")
        assert re.fullmatch(rb"[-\d]+T[:\d]+\.\d{3}Z WARNING service.some.module: Serving mnist.\n", stream.only())

    def test_a_traceback_is_indented_so_that_nothing_in_it_passes_for_a_line(self) -> None:
        stream = Stream()
        configure("info", "text", stream)
        try:
            raise ZeroDivisionError("so\n2026-01-01T00:00:00.000Z INFO service: all is well")
        except ZeroDivisionError:
            logging.getLogger("service").exception("Failed.")
        first, *rest = stream.only().decode().splitlines()
        assert first.endswith("ERROR service: Failed.")
        assert rest
        assert all(line.startswith("    ") for line in rest)

    def test_a_request_has_the_same_fields_as_in_json(self) -> None:
        text, as_json = Stream(), Stream()
        write_one(RequestLog(LogWriter(text), "text"))
        write_one(RequestLog(LogWriter(as_json), "json"))
        line = text.only().decode()
        assert "INFO service.requests: POST /encode 200 " in line
        fields = dict(re.findall(r"(\w+)=(\S+)", line))
        wanted = json.loads(as_json.only())
        assert set(fields) == set(wanted) - {"time", "level", "logger", "message", "method", "route", "status"}
        for name, content in fields.items():
            assert content == str(wanted[name]) or float(content) == wanted[name]


@pytest.mark.parametrize("form", ["text", "json"])
class TestLines:
    """Every record is one line, which is short enough to be written to a pipe atomically."""

    def test_nothing_in_a_message_ends_its_line(self, form: Format) -> None:
        stream = Stream()
        configure("info", form, stream)
        logging.getLogger("service").info("before %s after", NASTY)
        line = stream.only().decode()
        assert len(line.splitlines()) == 1
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert "before a" in line
        assert "é\U0001f600 after" in line

    def test_nothing_in_a_request_ends_its_line(self, form: Format) -> None:
        stream = Stream()
        write_one(RequestLog(LogWriter(stream), form), "a\nb\r\x00")
        assert stream.only()[:-1].decode().isprintable()

    @pytest.mark.parametrize("text", ["x" * 100_000, NASTY * 3000, "\U0001f600" * 5000])
    def test_a_long_message_or_traceback_is_cut_and_stays_well_formed(self, form: Format, text: str) -> None:
        stream = Stream()
        configure("info", form, stream)
        try:
            raise ZeroDivisionError(text + "the very end")
        except ZeroDivisionError:
            logging.getLogger("service").exception("the very beginning %s", text)
        line = stream.only()
        assert LINE_BYTES / 8 < len(line) <= LINE_BYTES
        assert b"the very beginning" in line
        assert b"the very end" in line
        if form == "json":
            assert json.loads(line)["level"] == "error"

    def test_a_bug_in_a_log_call_raises_nothing(self, form: Format, capfd: pytest.CaptureFixture[str]) -> None:
        stream = Stream()
        configure("info", form, stream)
        logging.getLogger("service").info("%d pictures", "three")
        assert b"%d pictures" in stream.only()
        assert capfd.readouterr() == ("", "")

    def test_what_is_below_the_level_is_not_written(self, form: Format) -> None:
        stream = Stream()
        configure("warning", form, stream)
        logging.getLogger("service").info("Nothing.")
        assert not stream.lines

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPIPE, errno.EIO, errno.EBADF])
    def test_lines_that_cannot_be_written_are_counted_and_dropped(
        self, form: Format, number: int, capfd: pytest.CaptureFixture[str]
    ) -> None:
        stream = Stream(number)
        writer = configure("info", form, stream)
        for _ in range(3):
            logging.getLogger("service").error("Lost.")
            write_one(RequestLog(writer, form))
        assert writer.lost == stream.tried == 6
        assert capfd.readouterr() == ("", "")
        stream.number = None  # now writing works again
        logging.getLogger("service").error("Found.")
        assert b"Found." in stream.only()
        assert writer.lost == 6


class TestRealStreams:
    """Real pipes and files that do not take the log."""

    def test_a_pipe_that_is_not_read_delays_nothing(self) -> None:
        reading, writing = os.pipe()
        with io.FileIO(reading) as read, io.FileIO(writing, "w") as stream:
            writer = LogWriter(stream)
            log = RequestLog(writer, "json")
            for _ in range(2000):
                write_one(log)  # 600 kB into a pipe of 64 kB
            assert 0 < writer.lost < 2000
            lines = (read.read(1 << 20) or b"").splitlines()
            assert len(lines) == 2000 - writer.lost
            assert all(json.loads(line)["images"] == 2 for line in lines)
            write_one(log)
            assert json.loads(read.read(1 << 20) or b"")["status"] == 200

    def test_a_pipe_that_is_closed(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with io.FileIO(writing, "w") as stream:
            writer = LogWriter(stream)
            write_one(RequestLog(writer, "json"))
        assert writer.lost == 1
        write_one(RequestLog(writer, "json"))  # now this end is closed, too
        assert writer.lost == 2

    CODE = """
import logging, sys
from service.telemetry import logs
from harness.records import record
writer = logs.configure("info", sys.argv[1])
request_log = logs.RequestLog(writer, sys.argv[1])
for number in range(100):
    try:
        raise ZeroDivisionError(number)
    except ZeroDivisionError:
        logging.getLogger("service").exception("Failed.")
    request_log.write(record())
print(writer.lost)
"""

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_a_process_whose_log_is_full_works_on_and_ends_well(self, form: str) -> None:
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [sys.executable, "-c", self.CODE, form], cwd=ROOT, stdout=subprocess.PIPE, stderr=full, check=False
            )
        assert (done.returncode, done.stdout) == (0, b"200\n")

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_a_process_whose_log_is_a_closed_pipe_works_on_and_ends_well(self, form: str) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        with io.FileIO(writing, "w") as stream:
            done = subprocess.run(
                [sys.executable, "-c", self.CODE, form], cwd=ROOT, stdout=subprocess.PIPE, stderr=stream, check=False
            )
        assert (done.returncode, done.stdout) == (0, b"200\n")

    def test_lines_of_several_processes_do_not_mix(self) -> None:
        code = """
import logging, sys
from service.telemetry import logs
logs.configure("info", "json")
for _ in range(200):
    logging.getLogger("service").info(sys.argv[1] * 3000)
"""
        reading, writing = os.pipe()
        writers = [subprocess.Popen([sys.executable, "-c", code, letter], cwd=ROOT, stderr=writing) for letter in "abc"]
        os.close(writing)
        with open(reading, "rb") as read:  # noqa: PTH123
            messages = [json.loads(line)["message"] for line in read]
        assert [writer.wait() for writer in writers] == [0, 0, 0]
        assert messages
        assert {len(message) for message in messages} == {3000}
        assert all(len(set(message)) == 1 for message in messages)
