"""Which verb answers a POST to a path: one of the service's own routes, or inference over another protocol."""

from __future__ import annotations

from service.api.open_inference import infer
from service.api.verb import Verb
from service.api.verbs import VERBS


def verb_of(path: str) -> Verb | None:
    """The verb for this path, as it was sent; None where there is none, or the router has to find it."""
    return VERBS.get(path) or infer.verb_of(path)
