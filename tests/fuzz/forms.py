"""What the properties of forms have in common: settings, JSON of any kind, and who is at fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from service.api.error_handlers import error_answer
from service.errors import VaeError
from service.settings import Settings

SETTINGS = Settings(max_batch=64)

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=8,
)


def documented(work: Callable[[], Any]) -> Any:
    """What `work` returns, or None when it raises what its caller answers with a status of the client's fault."""
    try:
        return work()
    except (VaeError, HTTPException) as error:
        answer = error_answer(error, "id", "/")
    assert 400 <= answer.status < 500
    return None
