"""The data type example.date: days since 1970-01-01 as int64, read as NumPy's datetime64[D].

Its fill value is written as any datetime's: the number of days, or "NaT".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.errors import MetadataError
from gpuzarr.metadata.model import DataType

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_date(configuration: Mapping[str, Any]) -> DataType:
    """The data type for the configuration in an array's metadata."""
    if configuration:
        raise MetadataError(f"example.date takes no configuration, but has {dict(configuration)}")
    return DataType("example.date", np.dtype("datetime64[D]"))
