from __future__ import annotations

import torch
from torch import Tensor

from training import augment


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_about_the_share_asked_for_is_warped_and_the_others_are_as_they_were(images: Tensor) -> None:
    for share, least, most in ((0.0, 0, 0), (0.5, 240, 360), (1.0, 600, 600)):
        changed = (augment.warped(images, share, draw()) != images).flatten(1).any(1)
        assert least <= changed.sum() <= most


def test_a_warped_digit_is_still_much_like_itself_and_no_two_are_alike(images: Tensor) -> None:
    first, second = (augment.warped(images, 1.0, draw(seed)).float() for seed in (0, 1))
    apart = (first - images.float()).square().mean((1, 2)).sqrt()
    strangers = (images.float() - images.float().roll(1, 0)).square().mean((1, 2)).sqrt()
    assert apart.mean() < 0.6 * strangers.mean()
    assert (first != second).flatten(1).any(1).all()
    # As much ink as before, within a few hundredths.
    assert abs(first.mean() / images.float().mean() - 1) < 0.03


def test_the_generator_alone_decides(images: Tensor) -> None:
    assert torch.equal(augment.warped(images, 0.5, draw(3)), augment.warped(images, 0.5, draw(3)))


def test_a_field_of_one_colour_stays_one() -> None:
    field = torch.tensor([200, 30, 90], dtype=torch.uint8).expand(8, 9, 7, 3)
    assert torch.equal(augment.warped(field, 1.0, draw()), field)
