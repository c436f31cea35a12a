"""Schemathesis: requests made from the OpenAPI document, good and bad, and every answer held against it."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.checks import positive_data_acceptance
from starlette.types import Receive, Scope, Send

from harness.paths import MODELS
from service.app import create_app
from service.settings import Settings
from tests.fuzz.target import Target

# Every check but this one: no schema can say which strings are pictures, and how many numbers a model's latents have.
BEYOND_SCHEMAS = [positive_data_acceptance]


class MadeAnew:
    """The application, another for each lifespan: Schemathesis ends one with every test, and ours has but one."""

    def __init__(self) -> None:
        self.app = create_app(Settings(models_dir=MODELS))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            self.app = create_app(Settings(models_dir=MODELS))
        await self.app(scope, receive, send)


made_anew = MadeAnew()
in_process = schemathesis.openapi.from_asgi("/openapi.json", made_anew)
over_a_socket = schemathesis.openapi.from_dict(made_anew.app.openapi())


@schemathesis.serializer("application/x-npy", "application/x-ndjson", "image/bmp", "image/tiff")
def as_it_is(_: schemathesis.SerializationContext, value: object) -> bytes:
    """What Schemathesis makes up for these media types, which it does not know."""
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def map_headers(_: schemathesis.HookContext, headers: dict[str, str] | None) -> dict[str, str] | None:
    """Made-up codings would have most requests refused before anything else of them is looked at."""
    return headers and {name: value for name, value in headers.items() if name != "Content-Encoding"}


@in_process.parametrize()
def test_in_process_every_answer_is_as_the_document_says(case: schemathesis.Case[Any]) -> None:
    case.call_and_validate(excluded_checks=BEYOND_SCHEMAS)


@over_a_socket.parametrize()
def test_from_a_real_server_every_answer_is_as_the_document_says(
    case: schemathesis.Case[Any], shared_target: Target
) -> None:
    case.call_and_validate(base_url=shared_target.url, excluded_checks=BEYOND_SCHEMAS)


def test_the_server_is_well_after_all_that(target: Target) -> None:
    target.is_well()
