"""What answers say about the pictures of a request: where the digit was found, and what the model saw."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from pydantic import BaseModel

from harness.digits import base64_png, decoded, digits, encoded
from harness.no_digits import no_digit
from harness.photos import photo
from service.api.answer_schemas import EncodeAnswer, InterpolateAnswer, ReconstructAnswer, ScoreAnswer

SMALL = base64_png(digits()[0])
PAGE = np.full((300, 400), 255, np.uint8)
PAGE[50:218, 100:268] = 255 - np.kron(digits()[0], np.ones((6, 6), np.uint8))
LARGE = base64_png(PAGE)


def ask(client: TestClient, path: str = "/encode", **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_preview_is_what_the_model_saw(client: TestClient) -> None:
    body = ask(client, images=[SMALL, LARGE], preview=True)
    seen = [decoded(picture) for picture in body["preview"]]
    np.testing.assert_array_equal(seen[0], digits()[0])
    assert ask(client, images=[base64_png(seen[1])], preprocess="none")["mu"] == body["mu"][1:]


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("/encode", EncodeAnswer),
        ("/reconstruct", ReconstructAnswer),
        ("/score", ScoreAnswer),
        ("/interpolate", InterpolateAnswer),
    ],
)
def test_every_verb_with_pictures_says_the_same_of_them(client: TestClient, path: str, schema: type[BaseModel]) -> None:
    body, encoded_ = (ask(client, each, images=[SMALL, LARGE], preview=True) for each in (path, "/encode"))
    schema.model_validate(body)
    assert (body["preview"], body["found"]) == (encoded_["preview"], encoded_["found"])
    (last,) = ask(client, "/traverse", images=[LARGE], dims=[0], preview=True)["preview"]
    assert last == body["preview"][1]


def test_a_preview_of_many_images_is_the_same(client: TestClient) -> None:
    texts = [base64_png(digit) for digit in digits()[:40]]
    assert (
        ask(client, images=texts, preview=True)["preview"]
        == ask(client, images=texts[:10], preview=True)["preview"]
        + ask(client, images=texts[10:], preview=True)["preview"]
    )


@pytest.mark.parametrize("preprocess", ["auto", "digit"])
def test_where_the_digit_was_found_is_in_pixels_of_the_picture(client: TestClient, preprocess: str) -> None:
    (found,) = ask(client, images=[LARGE], preprocess=preprocess)["found"]
    rows, columns = np.flatnonzero((PAGE < 128).any(axis=1)), np.flatnonzero((PAGE < 128).any(axis=0))
    assert found["box"] == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert 0.8 <= found["confidence"] <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_large_turned_jpeg_is_measured_as_people_see_it(client: TestClient, orientation: int) -> None:
    page = np.kron(PAGE, np.ones((5, 5), np.uint8)).astype(np.uint8)
    turns = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]  # to the left: what EXIF turns back
    exif = Image.Exif()
    exif[0x112] = orientation
    file = encoded(np.ascontiguousarray(np.rot90(page, turns)), "JPEG", exif=exif)
    (found,) = ask(client, images=[base64.b64encode(file).decode()], preprocess="digit")["found"]
    (flat,) = ask(client, images=[LARGE], preprocess="digit")["found"]
    np.testing.assert_allclose(found["box"], np.multiply(flat["box"], 5), atol=12)


def test_pictures_that_are_not_searched_have_no_place(client: TestClient) -> None:
    found = ask(client, images=[SMALL, LARGE])["found"]
    assert found[0] is None
    assert found[1] is not None


@pytest.mark.parametrize("options", [{}, {"preprocess": "resize"}, {"preprocess": "none"}])
def test_a_picture_of_the_models_size_costs_no_field(client: TestClient, options: dict[str, str]) -> None:
    assert list(ask(client, images=[SMALL], **options)) == ["model", "mu", "logvar"]


def test_other_forms_take_the_option_and_other_answers_have_no_room_for_it(client: TestClient) -> None:
    headers = {"content-type": "image/png"}
    answer = client.post("/encode?preview=true", content=encoded(digits()[0]), headers=headers)
    np.testing.assert_array_equal(decoded(answer.json()["preview"][0]), digits()[0])
    arrays = client.post(
        "/encode?preview=true", content=encoded(digits()[0]), headers=headers | {"accept": "application/x-npy"}
    )
    plain = client.post("/encode", content=encoded(digits()[0]), headers=headers | {"accept": "application/x-npy"})
    assert arrays.content == plain.content


def test_a_photo_without_a_digit_is_refused_with_what_it_shows(client: TestClient) -> None:
    pictures = [photo(digits()[0], 0), no_digit("face", 0), no_digit("text", 0)]
    body = {"images": [base64.b64encode(file).decode() for file in pictures], "preprocess": "digit"}
    answer = client.post("/encode", json=body)
    assert answer.status_code == 422
    problems = {problem["pointer"]: problem["detail"] for problem in answer.json()["errors"]}
    assert list(problems) == ["/images/1", "/images/2"]
    assert all("digit" in detail for detail in problems.values())


def test_fashion_is_not_taken_for_a_digit(client: TestClient) -> None:
    body = ask(client, images=[LARGE], model="fashion-mlp", preview=True)
    assert "found" not in body
    seen = decoded(body["preview"][0])
    assert seen.any(axis=1).all()  # from edge to edge


@pytest.mark.parametrize(
    ("kind", "media_type"), [("TIFF", "image/tiff"), ("JPEG", "image/jpeg"), ("JPEG", "image/jpg")]
)
def test_a_picture_is_read_by_each_name_of_its_media_type(client: TestClient, kind: str, media_type: str) -> None:
    file = encoded(digits()[0], kind)
    answer = client.post("/encode", content=file, headers={"content-type": media_type})
    assert answer.status_code == 200
    assert answer.json() == ask(client, images=[f"data:{media_type};base64,{base64.b64encode(file).decode()}"])


def test_the_refusal_of_avif_says_what_to_send_instead(client: TestClient) -> None:
    file = encoded(digits()[0], "AVIF")
    refused = client.post("/encode", json={"images": [base64.b64encode(file).decode()]})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["detail"].endswith("Send a PNG or a JPEG.")
    assert client.post("/encode", content=file, headers={"content-type": "image/avif"}).status_code == 415
