"""The Open Inference Protocol under fire: requests made from its own OpenAPI document, and bodies that are damaged.

`tests/data/open_inference_rest.yaml` is the document as its authors publish it.
"""

from __future__ import annotations

import json
from typing import Any, Final

import schemathesis
from hypothesis import example, given
from hypothesis import strategies as st
from schemathesis.checks import content_type_conformance, not_a_server_error, response_schema_conformance

from harness.connection import Answer, request
from harness.digits import digits
from harness.paths import DATA
from tests.fuzz.target import Target

MODELS: Final = [f"mnist-mlp.{kind}" for kind in ("encoder", "decoder", "encode", "reconstruct", "sample")]
REFUSALS: Final = {400, 404, 405, 413, 415}

IMAGE: Final = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28], "parameters": {"binary_data_size": 784}}
TEXT: Final = json.dumps({"id": "7", "inputs": [IMAGE], "parameters": {"binary_data_output": True}}).encode()
GOOD: Final = TEXT + digits()[0].tobytes()


def document() -> str:
    """The document of the protocol, with names and versions of models that there are."""
    text = (DATA / "open_inference_rest.yaml").read_text().replace("${", "{")
    for name, values in (("MODEL_NAME", MODELS), ("MODEL_VERSION", ["1", "2"])):
        text = text.replace(
            f"type: string\n        name: {name}", f"type: string\n          enum: {values}\n        name: {name}"
        )
    return text


of_the_protocol = schemathesis.openapi.from_file(document())


@of_the_protocol.parametrize()
def test_every_answer_is_as_the_document_of_the_protocol_says(
    case: schemathesis.Case[Any], shared_target: Target
) -> None:
    # It knows no status but 200 and 400, and no method that is not allowed.
    answer = case.call(base_url=shared_target.url)
    assert answer.status_code == 200 or answer.status_code in REFUSALS
    if answer.status_code in (200, 400):
        case.validate_response(
            answer, checks=[not_a_server_error, response_schema_conformance, content_type_conformance]
        )
    if answer.status_code != 200:
        assert list(answer.json()) == ["error"]


def asked(target: Target, body: bytes, *headers: bytes) -> Answer:
    with target.connect() as connection:
        return connection.ask(request("/v2/models/mnist-mlp.encoder/infer", body, "", *headers))


@given(
    at=st.integers(0, len(GOOD) - 1),
    put=st.binary(max_size=8),
    cut=st.integers(0, 8),
    length=st.one_of(st.just(str(len(TEXT)).encode()), st.from_regex(rb"[-+]?[0-9]{1,12}", fullmatch=True)),
)
@example(at=0, put=b"", cut=0, length=b"0")
def test_a_damaged_body_is_refused_or_answered_and_never_worse(
    shared_target: Target, at: int, put: bytes, cut: int, length: bytes
) -> None:
    answer = asked(shared_target, GOOD[:at] + put + GOOD[at + cut :], b"Inference-Header-Content-Length: " + length)
    assert answer.status == 200 or answer.status in REFUSALS
    if answer.status != 200:
        assert list(answer.json) == ["error"]


@given(body=st.binary(max_size=200), coding=st.sampled_from([b"gzip", b"deflate", b"br"]))
def test_so_is_one_that_is_not_compressed_as_it_says(shared_target: Target, body: bytes, coding: bytes) -> None:
    answer = asked(shared_target, body, b"Content-Encoding: " + coding)
    assert answer.status in REFUSALS
    assert list(answer.json) == ["error"]


def test_the_server_is_well_after_all_that(target: Target) -> None:
    target.is_well()
