"""What can go wrong in training for a reason that the user can mend; the message is one sentence that says how.

TrainingError
├── RecipeError       a recipe or command line that cannot be followed
├── DataError         a data set that is missing, damaged or unreachable
├── CheckpointError   a checkpoint that is missing, unreadable or of another recipe
└── ExportError       a bundle that may not be written
"""

from __future__ import annotations


class TrainingError(Exception):
    """The family's base: the programs print the message and exit with status 1."""


class RecipeError(TrainingError):
    """A recipe or command line that cannot be followed."""


class DataError(TrainingError):
    """A data set that is missing, damaged or unreachable."""


class CheckpointError(TrainingError):
    """A checkpoint that is missing, unreadable or of another recipe."""


class ExportError(TrainingError):
    """A bundle that may not be written: no parity with PyTorch, or another bundle in its place."""
