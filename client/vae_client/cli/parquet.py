"""Parquet files, with pyarrow if it is there."""

from __future__ import annotations

import importlib
import io
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np


class NoParquet(Exception):
    """pyarrow is not installed. `str(error)` says what to do."""

    def __init__(self) -> None:
        super().__init__("Parquet files need pyarrow: pip install 'vae-client[parquet]'.")


def pyarrow() -> ModuleType:
    """The module. Raises NoParquet."""
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise NoParquet from error
    return importlib.import_module("pyarrow")


def parquet_bytes(columns: Mapping[str, Any]) -> bytes:
    """A file with these columns: arrays of float32 [N] or [N, L], or lists."""
    arrow = pyarrow()

    def column(values: Any) -> Any:
        if isinstance(values, np.ndarray) and values.ndim == 2:
            return arrow.FixedSizeListArray.from_arrays(arrow.array(values.ravel()), values.shape[1])
        return arrow.array(values)

    stream = io.BytesIO()
    arrow.parquet.write_table(arrow.table({name: column(values) for name, values in columns.items()}), stream)
    return stream.getvalue()


def read_parquet(data: bytes) -> dict[str, list[Any]]:
    """The columns of a file, as lists. Raises what pyarrow raises."""
    arrow = pyarrow()
    columns: dict[str, list[Any]] = arrow.parquet.read_table(io.BytesIO(data)).to_pydict()
    return columns
