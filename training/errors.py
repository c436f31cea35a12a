"""What can go wrong in training for a reason that the user can change. The message is one sentence that says how.

TrainingError
├── RecipeError       a recipe or command line that cannot be followed
├── DataError         a data set that is missing, damaged or unreachable
├── CheckpointError   a checkpoint that is missing, unreadable or of another recipe, or a run that exists already
└── ExportError       a bundle that may not be written
    └── VersionTaken  because there is one of that version
"""

from __future__ import annotations


class TrainingError(Exception):
    """The base class. The programs print the message and exit with status 1."""


class RecipeError(TrainingError):
    """A recipe or command line that cannot be followed. The programs exit with status 2."""


class DataError(TrainingError):
    """A data set that is missing, damaged or unreachable."""


class CheckpointError(TrainingError):
    """A checkpoint that is missing, unreadable or of another recipe, or a run that exists already."""


class ExportError(TrainingError):
    """A bundle that may not be written: its graphs differ from PyTorch's model, or its place is taken."""


class VersionTaken(ExportError):
    """There is a bundle of this version, and it is not to be replaced."""
