"""Hostile pictures, sent to a real server in every form of request."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from harness.connection import Answer, request
from harness.digits import encoded
from harness.servers import wait_for
from tests.fuzz.pictures import cut_short, hostile_pictures, largest_pictures
from tests.fuzz.target import Target, good_request, is_problem

MIB = 2**20
FORMS = ("JSON", "multipart", "raw")


def with_picture(picture: bytes, form: str, preprocess: str = "resize", path: str = "/encode") -> bytes:
    """A request that has one picture in it."""
    if form == "JSON":
        text = base64.b64encode(picture).decode()
        return request(path, json.dumps({"images": [text], "preprocess": preprocess}).encode())
    if form == "multipart":
        parts = [
            b'--b\r\nContent-Disposition: form-data; name="images"; filename="p"\r\n\r\n' + picture,
            b'--b\r\nContent-Disposition: form-data; name="preprocess"\r\n\r\n' + preprocess.encode(),
            b"--b--\r\n",
        ]
        return request(path, b"\r\n".join(parts), "multipart/form-data; boundary=b")
    return request(f"{path}?preprocess={preprocess}", picture, "image/png")


def is_answered(answer: Answer, *statuses: int) -> None:
    """Fail unless the status is one of those, and all but 200 a problem."""
    assert answer.status in statuses, answer
    if answer.status != 200:
        is_problem(answer)


def test_each_gets_the_status_it_should(target: Target, subtests: pytest.Subtests) -> None:
    for picture in hostile_pictures():
        with subtests.test(picture.name), target.connect() as connection:
            answer = connection.ask(with_picture(picture.data, "raw"))
            is_answered(answer, picture.status)
            if picture.pixels is not None:
                plain = connection.ask(with_picture(encoded(picture.pixels), "raw", "none"))
                assert answer.body == plain.body
            target.is_well()


@pytest.mark.parametrize("preprocess", ["none", "digit", "auto"])
@pytest.mark.parametrize("form", FORMS)
def test_none_breaks_the_service_in_any_form_of_request(
    target: Target, subtests: pytest.Subtests, form: str, preprocess: str
) -> None:
    for picture in hostile_pictures():
        with subtests.test(picture.name), target.connect() as connection:
            is_answered(connection.ask(with_picture(picture.data, form, preprocess)), 200, 413, 422)
        with target.connect() as other:  # the first may be closed: too much of a refused body was still to come
            assert other.ask(good_request()).body == target.truth


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_cut_short_at_any_byte_it_is_refused_or_read_in_full(target: Target, kind: str) -> None:
    with target.connect() as connection:
        whole = connection.ask(with_picture(cut_short(kind)[-1], "raw"))
        for picture in cut_short(kind):
            answer = connection.ask(with_picture(picture, "raw"))
            is_answered(answer, 200, 422)
            assert answer.status == 422 or answer.body == whole.body, len(picture)
            assert connection.ask(good_request()).body == target.truth


def test_none_takes_more_than_a_second_of_work(target: Target, subtests: pytest.Subtests) -> None:
    """Pictures whose bytes each cause work are refused before that work is done."""
    for picture in hostile_pictures():
        with subtests.test(picture.name), target.connect() as connection, target.works_at_most(1):
            connection.ask(with_picture(picture.data, "raw"))


class TestMemory:
    """At default settings one picture may need 512 MiB while it is read, and leaves less than 32 MiB behind."""

    PEAK = 512 * MIB
    LEFT = 32 * MIB

    @pytest.fixture
    def target(self, start: Callable[..., Target]) -> Target:
        """A server of the test's own, which has answered before."""
        target = start()
        for _ in range(20):
            target.is_well()
        return target

    def test_one_picture_needs_no_more_than_its_bounds(self, target: Target, subtests: pytest.Subtests) -> None:
        before = target.memory()
        for picture in (*largest_pictures(), *hostile_pictures()):
            with subtests.test(picture.name), target.connect() as connection:
                target.forget_peak()
                is_answered(connection.ask(with_picture(picture.data, "raw")), picture.status)
                assert target.memory("VmHWM") - before < self.PEAK
                wait_for(lambda: target.memory() - before < self.LEFT)  # what the last thread holds goes with its call
        target.is_well()

    def test_two_at_once_leave_no_more_behind(self, target: Target) -> None:
        """Each is read in a thread of its own, and the C library keeps memory by threads."""
        before = target.memory()
        for picture in largest_pictures():
            with target.connect() as one, target.connect() as other:
                for connection in (one, other):
                    connection.send(with_picture(picture.data, "raw"))
                for connection in (one, other):
                    answer = connection.answer()
                    assert answer is not None
                    assert answer.status in (picture.status, 413)
        wait_for(lambda: target.memory() - before < self.LEFT)
        target.is_well()
