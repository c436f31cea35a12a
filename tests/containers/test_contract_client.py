"""The tests of our own client, against the container."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.servers import Server
from tests.client.test_client import (
    test_a_picture_can_come_in_any_form,
    test_a_preview_shows_what_the_model_saw_and_where,
    test_decode_takes_one_latent_or_several,
    test_encode_gives_the_posterior_of_each_picture,
    test_models_and_health_say_what_is_served,
    test_pictures_in_colour_are_read,
    test_reconstruct_gives_images,
    test_sample_draws_images_that_can_be_drawn_again,
    test_score_says_how_typical_pictures_are,
    test_walks_come_from_pictures_or_latents,
)
from vae_client import Client

__all__ = [
    "test_a_picture_can_come_in_any_form",
    "test_a_preview_shows_what_the_model_saw_and_where",
    "test_decode_takes_one_latent_or_several",
    "test_encode_gives_the_posterior_of_each_picture",
    "test_models_and_health_say_what_is_served",
    "test_pictures_in_colour_are_read",
    "test_reconstruct_gives_images",
    "test_sample_draws_images_that_can_be_drawn_again",
    "test_score_says_how_typical_pictures_are",
    "test_walks_come_from_pictures_or_latents",
]


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A client of the container."""
    with Client(server.url) as client:
        yield client
