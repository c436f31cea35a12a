"""Where things are. No other module works this out."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
MODELS: Final = ROOT / "models"
TESTS: Final = ROOT / "tests"
DATA: Final = TESTS / "data"  # a subset of MNIST, and a digit as a picture file
DIGIT: Final = DATA / "digit.png"
