"""What the user asked, in one form: `normalize_selection` and its kin turn keys into a `Selection`.

A `Selection` is a tuple of axes, in the order in which they appear in the result. Each axis covers
one array dimension (a `Span`: first, step, count) or several that are walked together (`Points`: a
list of coordinates). The result has one axis each; integers leave an axis of length one behind and
`None` adds one, which only a reshape of the result tells, so engines never see them:

    array[3, ::-1, None, [5, 1]]   ->   axes (Points dims (2,), Span dim 0, Span dim 1)
                                        result shape (2, n, 1), canonical shape (2, 1, n)

(the integer is far from the list, so NumPy puts the list's axis first.)

Rules: `[]` follows NumPy, `oindex`, `vindex` and `blocks` follow zarr-python.
"""

from __future__ import annotations

import operator
import reprlib
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.errors import SelectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.plan.grid import GridAxis

MOST_DIMENSIONS = 64
"""NumPy's limit; before NumPy 2 it is 32, and NumPy itself says so."""

PLAIN = frozenset((slice, int))
"""Types of what needs no other form; they make up nearly all keys that a program reads many of."""


@dataclass(frozen=True, slots=True)
class Span:
    """Regularly spaced indices along one dimension: start, start + step, ..."""

    dim: int
    start: int
    step: int
    """Not zero; negative steps walk backwards."""
    count: int

    @property
    def dims(self) -> tuple[int, ...]:
        """The array dimensions that this axis covers."""
        return (self.dim,)

    @property
    def last(self) -> int:
        """The last index; meaningless when `count` is 0."""
        return self.start + (self.count - 1) * self.step


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """A list of places: along one dimension, or along several that are walked together."""

    dims: tuple[int, ...]
    coords: NDArray[np.int64]
    """(count, len(dims)) indices, none negative."""

    @property
    def count(self) -> int:
        """Number of places."""
        return len(self.coords)


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """A selection of an array, checked against its shape."""

    axes: tuple[Span | Points, ...]
    """Every dimension of the array is covered by exactly one axis."""
    shape: tuple[int, ...]
    """Shape of the result."""
    field: str | None = None
    """One field of a structured type, or None."""

    def __post_init__(self) -> None:
        """Refuse results of more dimensions than NumPy has."""
        if len(self.shape) > MOST_DIMENSIONS:
            raise SelectionError(
                f"the result would have {len(self.shape)} dimensions; at most {MOST_DIMENSIONS}"
            )

    @property
    def canonical_shape(self) -> tuple[int, ...]:
        """Shape of the result with one axis for each of `axes`: what engines write into."""
        return tuple(axis.count for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of elements of the result."""
        return prod(self.shape)


def normalize_selection(key: Any, shape: Sequence[int]) -> Selection:
    """Basic and advanced indexing with the meaning that NumPy gives it.

    Raises:
        SelectionError: out of bounds, too many indices, wrong types.

    >>> normalize_selection((slice(None, None, -2), 3), (5, 4)).shape
    (3,)
    """
    if type(key) is tuple and len(key) == len(shape) and PLAIN.issuperset(map(type, key)):
        return _basic(key, shape, None)
    entries, field = _expand(key, shape)
    if not any(isinstance(entry, np.ndarray) for entry in entries):
        return _basic(entries, shape, field)
    return _advanced(entries, shape, field, group_first=False)


def normalize_vectorized(key: Any, shape: Sequence[int]) -> Selection:
    """`vindex`: lists of coordinates that are walked together, or a mask; their axes come first."""
    entries, field = _expand(key, shape)
    lists = [_as_list(entry) if isinstance(entry, int) else entry for entry in entries]
    if not any(isinstance(entry, np.ndarray) for entry in lists):
        raise SelectionError("vindex takes lists of coordinates or a mask; use [] for slices")
    return _advanced(lists, shape, field, group_first=True)


def normalize_orthogonal(key: Any, shape: Sequence[int]) -> Selection:
    """`oindex`: each dimension on its own, by an integer, a slice, a list or a 1-d mask."""
    entries, field = _expand(key, shape)
    axes: list[Span | Points] = []
    result: list[int] = []
    for entry in entries:
        if entry is None:
            result.append(1)
            continue
        if entry is _GAP:
            continue
        dim = len(axes)
        if isinstance(entry, np.ndarray):
            if entry.ndim != 1:
                raise SelectionError(
                    f"oindex takes one-dimensional lists; dimension {dim} got one of {entry.ndim}"
                )
            axes.append(Points((dim,), _wrap(entry, dim, shape[dim])[:, None]))
            result.append(len(entry))
        else:
            span = _span(entry, dim, shape[dim])
            axes.append(span)
            if isinstance(entry, slice):
                result.append(span.count)
    return Selection(tuple(axes), tuple(result), field)


def normalize_blocks(key: Any, shape: Sequence[int], grid: Sequence[GridAxis]) -> Selection:
    """`blocks`: whole chunks by position in the chunk grid: integers, slices of step 1."""
    counts = [axis.nchunks for axis in grid]
    entries, field = _expand(key, counts)
    axes: list[Span | Points] = []
    for entry in entries:
        if entry is _GAP:
            continue
        dim = len(axes)
        if entry is None or isinstance(entry, np.ndarray):
            raise SelectionError("blocks takes integers and slices")
        blocks = _span(entry, dim, counts[dim])
        if blocks.step != 1:
            raise SelectionError("blocks takes slices of step 1 only")
        start = stop = 0
        if blocks.count:
            start = int(grid[dim].start_of(np.asarray(blocks.start)))
            last = np.asarray(blocks.last)
            stop = min(int(grid[dim].start_of(last) + grid[dim].size_of(last)), shape[dim])
        axes.append(Span(dim, start, 1, stop - start))
    return Selection(tuple(axes), tuple(axis.count for axis in axes), field)


def _expand(key: Any, shape: Sequence[int]) -> tuple[list[Any], str | None]:
    """The key with one entry a dimension (slice, int, or list of integers), None and `_GAP`.

    Masks become lists of integers, one for each dimension that they cover.
    """
    parts = list(key) if isinstance(key, tuple) else [key]
    fields = [part for part in parts if isinstance(part, str)]
    if len(fields) > 1:
        raise SelectionError(f"one field at a time, not {fields}")
    parts = [_entry(part) for part in parts if not isinstance(part, str)]
    ellipses = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(ellipses) > 1:
        raise SelectionError("an index can only have a single ellipsis ('...')")
    used = sum(_dims_of(part) for part in parts)
    if used > len(shape):
        raise SelectionError(
            f"too many indices: the array has {len(shape)} dimensions, but {used} were indexed"
        )
    rest: list[Any] = [slice(None)] * (len(shape) - used)
    at = ellipses[0] if ellipses else len(parts)
    # NumPy lets an ellipsis part the lists on its two sides even where it stands for no dimension.
    parts[at : at + 1] = rest if rest or not ellipses else [_GAP]
    entries: list[Any] = []
    dim = 0
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype == bool:
            entries.extend(_mask_lists(part, tuple(shape[dim : dim + part.ndim])))
        else:
            entries.append(part)
        dim += _dims_of(part)
    return entries, fields[0] if fields else None


class _Gap:
    """An ellipsis that stands for no dimension."""


_GAP = _Gap()


def _entry(part: Any) -> Any:
    """One part of a key as a slice, an int, an array of integers or booleans, None or Ellipsis."""
    if part is None or part is Ellipsis or isinstance(part, slice):
        return part
    if not isinstance(part, (list, np.ndarray, bool, np.bool_)):
        try:
            return operator.index(part)
        except TypeError:
            pass
    try:
        array = np.asarray(part)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SelectionError(f"not an index: {reprlib.repr(part)} ({error})") from error
    if array.size == 0 and not isinstance(part, np.ndarray):
        array = array.astype(np.int64)
    kind = array.dtype.kind
    if kind not in "iub" or (kind == "b" and array.ndim == 0):
        raise SelectionError(
            "an index is an integer, a slice, '...', None, or a list or array of integers or"
            f" booleans; this is {reprlib.repr(part)}"
        )
    if kind == "b":
        return array
    if kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise SelectionError(f"index {int(array.max())} is out of bounds")
    return int(array) if array.ndim == 0 else array.astype(np.int64)


def _as_list(index: int) -> NDArray[np.int64]:
    """An integer as a list of no dimensions, to be walked with other lists."""
    limits = np.iinfo(np.int64)
    if not limits.min <= index <= limits.max:
        raise SelectionError(f"index {index} is out of bounds")
    return np.asarray(index, np.int64)


def _dims_of(part: Any) -> int:
    """How many dimensions a part of a key covers."""
    if part is None or part is Ellipsis or part is _GAP:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == bool else 1


def _mask_lists(mask: NDArray[np.bool_], expected: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """A mask as lists of its true places, one a dimension."""
    if mask.shape != expected:
        raise SelectionError(
            f"a mask has the shape of the dimensions that it covers: {mask.shape} is not {expected}"
        )
    return list(mask.nonzero())


def _basic(entries: Sequence[Any], shape: Sequence[int], field: str | None) -> Selection:
    spans: list[Span] = []
    result: list[int] = []
    for entry in entries:
        if entry is None:
            result.append(1)
        elif entry is not _GAP:
            span = _span(entry, len(spans), shape[len(spans)])
            spans.append(span)
            if isinstance(entry, slice):
                result.append(span.count)
    return Selection(tuple(spans), tuple(result), field)


def _advanced(
    entries: Sequence[Any], shape: Sequence[int], field: str | None, *, group_first: bool
) -> Selection:
    """Lists are walked together; their axes stand where NumPy puts them, or first of all."""
    lists: list[NDArray[np.int64]] = []
    list_dims: list[int] = []
    spans: list[Span] = []
    # One row an axis of the result outside the group: its length, and how many spans come before
    # it.
    visible: list[tuple[int, int]] = []
    advanced: list[int] = []  # places in `entries` of lists and integers
    visible_before: list[int] = []  # for each entry, how many visible axes come before it
    dim = 0
    for place, entry in enumerate(entries):
        visible_before.append(len(visible))
        if entry is None:
            visible.append((1, len(spans)))
        elif isinstance(entry, np.ndarray):
            lists.append(_wrap(entry, dim, shape[dim]))
            list_dims.append(dim)
            advanced.append(place)
        elif entry is not _GAP:
            span = _span(entry, dim, shape[dim])
            if isinstance(entry, slice):
                visible.append((span.count, len(spans)))
            else:
                advanced.append(place)
            spans.append(span)
        dim += _dims_of(entry)
    try:
        together = np.broadcast_arrays(*lists)
    except (ValueError, RuntimeError) as error:
        shapes = ", ".join(str(one.shape) for one in lists)
        raise SelectionError(f"these lists do not broadcast together: {shapes}") from error
    adjacent = advanced[-1] - advanced[0] + 1 == len(advanced)
    before = visible_before[advanced[0]] if adjacent and not group_first else 0
    result = [length for length, _ in visible]
    result[before:before] = together[0].shape
    first = visible[before][1] if before < len(visible) else len(spans)
    coords = np.stack([one.reshape(-1) for one in together], axis=-1)
    points = Points(tuple(list_dims), coords)
    axes: tuple[Span | Points, ...] = (*spans[:first], points, *spans[first:])
    return Selection(axes, tuple(result), field)


def _span(entry: slice | int, dim: int, length: int) -> Span:
    """A slice or an integer as a span, with Python's rules for slices."""
    if isinstance(entry, int):
        if not -length <= entry < length:
            raise SelectionError(
                f"index {entry} is out of bounds for dimension {dim} of size {length}"
            )
        return Span(dim, entry % length, 1, 1)
    try:
        start, stop, step = entry.indices(length)
    except (TypeError, ValueError) as error:
        raise SelectionError(f"{entry} for dimension {dim}: {error}") from error
    # len(range(...)) overflows for the largest shapes, so count by arithmetic.
    count = max(0, -(-(stop - start) // step) if step > 0 else -(-(start - stop) // -step))
    # The step of a single place means nothing, and may be too large for arithmetic on columns.
    return Span(dim, start, step if count > 1 else 1, count)


def _wrap(indices: NDArray[np.int64], dim: int, length: int) -> NDArray[np.int64]:
    """Indices with negative ones counted from the end."""
    if indices.size:
        low, high = int(indices.min()), int(indices.max())
        if low < -length or high >= length:
            wrong = low if low < -length else high
            raise SelectionError(
                f"index {wrong} is out of bounds for dimension {dim} of size {length}"
            )
        if low < 0:
            return np.where(indices < 0, indices + length, indices)
    return indices
