"""Properties of requests for walks, and of walks themselves, for any input."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from harness.digits import digits, encoded
from service.api.points import parse_interpolation, parse_traversal
from service.api.request_head import JSON, NPY, RequestOptions
from service.api.requests import Body
from service.images import codec
from service.inference.admission import Reservation
from service.inference.registry import Registry
from service.inference.walks import Interpolation
from tests.fuzz.forms import SETTINGS, documented, json_values

small = st.floats(-1e6, 1e6, width=32)


class TestWalks:
    @given(
        parse=st.sampled_from([parse_interpolation, parse_traversal]),
        document=st.fixed_dictionaries(
            {},
            optional={
                "z": st.one_of(st.lists(st.just([0.0] * 20), max_size=3), json_values),
                "images": st.one_of(st.just([base64.b64encode(encoded(digits()[0])).decode()] * 2), json_values),
                "steps": st.one_of(st.integers(), json_values),
                "path": st.one_of(st.sampled_from(["linear", "spherical"]), json_values),
                "dims": st.one_of(st.lists(st.integers(-1, 20), max_size=3), json_values),
                "range": st.one_of(st.lists(st.floats(), max_size=3), json_values),
            },
        ),
    )
    def test_a_document_is_a_walk_within_the_limit_or_refused(
        self, registry: Registry, parse: Any, document: dict[str, Any]
    ) -> None:
        body = Body(json.dumps(document).encode("utf-8", "surrogatepass"), RequestOptions(JSON))
        form = documented(lambda: parse(body, registry, SETTINGS, Reservation()))
        if form is not None:
            assert 2 <= form.frames == form.walk.frames(form.points.count) <= SETTINGS.max_batch

    @given(
        parse=st.sampled_from([parse_interpolation, parse_traversal]),
        query=st.lists(
            st.tuples(
                st.sampled_from(["steps", "path", "dims", "range", "model", "other"]),
                st.one_of(st.text(), st.text("0123456789,.-"), st.sampled_from(["3,4", "-1,2.5", "9", "spherical"])),
            ),
            max_size=4,
        ),
        count=st.integers(1, 2),
    )
    def test_a_query_is_a_walk_or_refused(
        self, registry: Registry, parse: Any, query: list[tuple[str, str]], count: int
    ) -> None:
        body = Body(codec.npy_bytes(digits()[:count]), RequestOptions(NPY, query=query))
        documented(lambda: parse(body, registry, SETTINGS, Reservation()))

    @given(
        points=st.integers(1, 5).flatmap(
            lambda latents: st.lists(st.lists(small, min_size=latents, max_size=latents), min_size=2, max_size=5)
        ),
        steps=st.integers(2, 9),
        path=st.sampled_from(["linear", "spherical"]),
    )
    @example(points=[[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [1e6, -1e6]], steps=3, path="spherical")
    def test_a_walk_goes_through_its_points_and_no_farther_out(
        self, points: list[list[float]], steps: int, path: Any
    ) -> None:
        given_ = np.array(points, np.float32)
        z = Interpolation(steps, path).place(given_)
        assert np.isfinite(z).all()
        assert z[:: steps - 1].tobytes() == given_.tobytes()
        lengths = np.linalg.norm(given_.astype(float), axis=1)
        farthest = np.repeat(np.maximum(lengths[:-1], lengths[1:]), steps - 1)
        assert (np.linalg.norm(z[:-1].astype(float), axis=1) <= farthest * (1 + 1e-6) + 1e-40).all()
