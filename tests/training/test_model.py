from __future__ import annotations

import torch

from training.model import to_image, to_signal


def test_grey_levels_survive_the_way_to_the_signal_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    signal = to_signal(levels)
    assert signal[[0, 255]].tolist() == [-1, 1]
    assert torch.equal(to_image(signal), levels)


def test_a_signal_out_of_range_is_clamped() -> None:
    assert to_image(torch.tensor([-7.0, -1.001, 1.001, 7.0])).tolist() == [0, 0, 255, 255]
