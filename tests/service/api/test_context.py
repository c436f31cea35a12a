from __future__ import annotations

import pytest

from service.api.context import RequestContext, request_id_of


def test_the_stages_add_up_to_the_whole() -> None:
    request = RequestContext()
    request.was_read("tiny@1", 1)
    request.queue, request.compute = 1e-9, 2e-9
    request.was_answered(200, 10)
    assert request.read >= 0
    assert request.read + request.queue + request.compute + request.write == pytest.approx(request.seconds)


def test_a_request_that_was_not_read_has_no_stages() -> None:
    request = RequestContext()
    request.was_answered(404, 10)
    assert request.seconds > 0
    assert (request.read, request.queue, request.compute, request.write) == (0, 0, 0, 0)


@pytest.mark.parametrize("sent", [b"", b"a b", b"x" * 129, b"a\nb", "\u00e9".encode()])
def test_an_unsafe_id_is_replaced(sent: bytes) -> None:
    given = request_id_of({b"x-request-id": sent})
    assert len(given) == 32
    assert given != request_id_of({b"x-request-id": sent})


def test_a_safe_id_is_kept() -> None:
    assert request_id_of({b"x-request-id": b"trace/1:a=b+c"}) == "trace/1:a=b+c"
