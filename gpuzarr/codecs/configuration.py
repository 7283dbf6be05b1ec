"""Reading codec configurations: each function takes one member, or says what is wrong with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gpuzarr.errors import MetadataError
from gpuzarr.program import resolve_dtype

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_DTYPE = re.compile(r"[<>=|]?(\?|[b-zA-Z][A-Za-z0-9_]*(\[[0-9]*[a-zA-Z\u03bc]+\])?)")
LONGEST_DTYPE = 100
"""Characters of a dtype's name."""
LONGEST_PROBLEM = 500
"""Characters of what is wrong: it repeats the document, which may be of any length."""


def malformed(codec: str, problem: str) -> NoReturn:
    """Raise MetadataError for a codec's configuration."""
    if len(problem) > LONGEST_PROBLEM:
        problem = problem[:LONGEST_PROBLEM] + "..."
    raise MetadataError(f"codec {codec!r}: {problem}")


def take_int(
    codec: str,
    configuration: Mapping[str, Any],
    key: str,
    default: int | None = None,
    *,
    at_least: int | None = None,
) -> int:
    """An integer member; a missing or null one gives `default`, which None makes an error."""
    value = configuration.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int):
        malformed(codec, f"{key!r} must be an integer, not {value!r}")
    if at_least is not None and value < at_least:
        malformed(codec, f"{key!r} must be at least {at_least}, not {value}")
    return value


def take_number(
    codec: str, configuration: Mapping[str, Any], key: str, default: float | None = None
) -> int | float:
    """A number; a missing or null one gives `default`, which None makes an error."""
    value = configuration.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float):
        malformed(codec, f"{key!r} must be a number, not {value!r}")
    return value


def take_choice(
    codec: str,
    configuration: Mapping[str, Any],
    key: str,
    choices: Sequence[str],
    default: str | None = None,
) -> str:
    """One of a few words; a missing or null one gives `default`, which None makes an error."""
    value = configuration.get(key)
    if value is None:
        value = default
    if value not in choices or not isinstance(value, str):
        malformed(codec, f"{key!r} must be one of {', '.join(choices)}, not {value!r}")
    return value


def take_ints(codec: str, configuration: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """A list of integers."""
    value = configuration.get(key)
    if not isinstance(value, list | tuple) or not all(
        isinstance(each, int) and not isinstance(each, bool) for each in value
    ):
        malformed(codec, f"{key!r} must be a list of integers, not {value!r}")
    return tuple(value)


def take_dtype(
    codec: str, configuration: Mapping[str, Any], key: str, default: np.dtype | None = None
) -> np.dtype:
    """A NumPy dtype string for plain numbers, as numcodecs has them.

    Object dtypes are refused: decoding into them would make pointers of stored bytes.
    """
    value = configuration.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        malformed(codec, f"{key!r} must be a NumPy dtype string, not {value!r}")
    dtype = find_dtype(value)
    if dtype is None:
        malformed(codec, f"{key!r} is not a NumPy dtype: {value!r}")
    if dtype.hasobject or dtype.type is np.void or dtype.kind == "T":
        malformed(codec, f"{key!r} must be a type of numbers, not {value!r}")
    if dtype.itemsize == 0:
        malformed(codec, f"{key!r} has no size: {value!r}")
    return dtype


def find_dtype(name: str) -> np.dtype | None:
    """NumPy's or ml_dtypes' dtype of a name; None where there is none."""
    # NumPy would parse other texts as Python, and warns of its own old names, which begin with "a".
    if len(name) > LONGEST_DTYPE or not _DTYPE.fullmatch(name):
        return None
    try:
        return resolve_dtype(name)
    except (TypeError, ValueError, AttributeError):
        return None


def refuse_other_keys(codec: str, configuration: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise for members that the codec's specification does not know."""
    if unknown := sorted(set(configuration) - set(known)):
        malformed(codec, f"unknown configuration {', '.join(map(repr, unknown))}")
