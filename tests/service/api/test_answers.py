from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException

from service.api.answers import IMAGE_TYPES, LATENT_TYPES, negotiate


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*", "image/png"),
        ("application/*", "application/json"),
        ("application/x-npy", "application/x-npy"),
        ("application/octet-stream", "application/octet-stream"),
        ("text/html, image/png;q=0.8, */*;q=0.5", "image/png"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
        ("application/json;q=0.5, image/png", "image/png"),
        ("application/json;q=0.5, image/png; q=0.4", "application/json"),
        ("*/*, application/json;q=0", "image/png"),
        ("image/png;q=0, */*;q=0.1", "application/json"),
        ("application/*;q=0.2, image/png;q=0.1", "application/json"),
        ("application/json;charset=utf-8", "application/json"),
    ],
)
def test_the_offered_type_of_the_highest_quality_is_chosen(accept: str | None, chosen: str) -> None:
    assert negotiate((accept or "").encode(), IMAGE_TYPES) == chosen


@pytest.mark.parametrize("accept", ["text/html", "image/jpeg", "application/json;q=0", "*/*;q=0", "image/png"])
def test_no_acceptable_type_is_406(accept: str) -> None:
    with pytest.raises(HTTPException) as caught:
        negotiate(accept.encode(), LATENT_TYPES)
    assert caught.value.status_code == 406


@pytest.mark.parametrize("quality", ["high", "", "nan", "inf", "-1", "2", "1.5", "1e0", "1_0"])
def test_a_quality_outside_of_0_to_1_is_400(quality: str) -> None:
    with pytest.raises(HTTPException) as caught:
        negotiate(f"image/png;q={quality}".encode(), IMAGE_TYPES)
    assert caught.value.status_code == 400


@pytest.mark.parametrize(
    "route", ["/encode", "/reconstruct", "/score", "/sample", "/decode", "/interpolate", "/traverse"]
)
def test_406_comes_before_the_body_is_read(client: TestClient, route: str) -> None:
    answer = client.post(route, content=b"garbage", headers={"accept": "text/html"})
    assert answer.status_code == 406
    assert "application/json" in answer.json()["detail"]
