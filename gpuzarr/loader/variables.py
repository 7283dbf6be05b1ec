"""What a loader reads of: an array, several, or those of a group, each with its conversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpuzarr.array import Array
from gpuzarr.errors import SelectionError
from gpuzarr.group import Group
from gpuzarr.many import make_request
from gpuzarr.plan.selection import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.plan.selection import Selection

    Source = Array | Group | Mapping[str, Array | Group] | Sequence[Array | Group]


@dataclass(frozen=True, slots=True, eq=False)
class Variable:
    """One array of a loader."""

    name: str
    """Its name in a mapping or group; else its number."""
    array: Array
    dtype: Any
    scale: float | None
    offset: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Variables:
    """The arrays of a loader, all read at the same windows."""

    all: tuple[Variable, ...]
    kind: type[tuple[Any, ...] | dict[str, Any]] | None
    """What a batch is: a tuple, a dict, or None: the array itself."""

    def batch(self, results: Sequence[Any]) -> Any:
        """Results, one a variable, as the consumer gets them."""
        if self.kind is None:
            return results[0]
        if self.kind is tuple:
            return tuple(results)
        return {variable.name: result for variable, result in zip(self.all, results, strict=True)}

    @property
    def largest(self) -> Array:
        """The array with the most dimensions, the first of them."""
        return max((variable.array for variable in self.all), key=lambda array: array.ndim)


def find_variables(
    source: Source, ndim: int | None, *, dtype: Any, scale: Any, offset: Any
) -> Variables:
    """The variables of a loader.

    Args:
        source: an array, a sequence or a mapping of arrays, or a group.
        ndim: of a group, the arrays with so many dimensions are taken; None: all.
        dtype: one for all, or a mapping or sequence with one for each.
        scale: the same.
        offset: the same.

    Raises:
        TypeError: a source that is none.
        ValueError: no arrays, or choices for others.
    """
    kind: Any = None
    named: dict[str, Any]
    if isinstance(source, Array):
        named = {"0": source}
    elif isinstance(source, Group):
        kind = dict
        named = {
            name: array for name, array in source.arrays() if ndim is None or array.ndim == ndim
        }
        if not named:
            what = "arrays" if ndim is None else f"arrays of {ndim} dimensions, as the crop has"
            raise ValueError(f"there are no {what} in {source!r}")
    elif isinstance(source, Mapping):
        kind, named = dict, {str(name): array for name, array in source.items()}
    elif isinstance(source, (tuple, list)):
        kind, named = tuple, {str(number): array for number, array in enumerate(source)}
    else:
        named = {}
    if not named or not all(isinstance(array, Array) for array in named.values()):
        raise TypeError(
            "a loader reads a gpuzarr.Array, a sequence or mapping of them, or a gpuzarr.Group, not"
            f" {source!r}"
        )
    dtypes, scales, offsets = (
        _for_each(name, value, list(named))
        for name, value in (("dtype", dtype), ("scale", scale), ("offset", offset))
    )
    return Variables(
        tuple(
            Variable(name, array, *choices)
            for (name, array), *choices in zip(named.items(), dtypes, scales, offsets, strict=True)
        ),
        kind,
    )


def _for_each(argument: str, value: Any, names: list[str]) -> list[Any]:
    """A choice for each variable."""
    if isinstance(value, Mapping):
        unknown = set(value) - set(names)
        if unknown:
            raise ValueError(
                f"{argument}= names {', '.join(sorted(map(repr, unknown)))}; the variables are"
                f" {', '.join(map(repr, names))}"
            )
        return [value.get(name) for name in names]
    if isinstance(value, (tuple, list)):
        if len(value) != len(names):
            raise ValueError(f"{argument}= has {len(value)} entries for {len(names)} variables")
        return list(value)
    return [value] * len(names)


def whole_crop(crop: int | Sequence[int | None], array: Array) -> tuple[int, ...]:
    """The crop with the array's lengths where it says None or -1.

    Raises:
        SelectionError: another number of dimensions than the array has.
    """
    entries = (crop,) if isinstance(crop, int) else tuple(crop)
    if len(entries) != array.ndim:
        raise SelectionError(
            f"crop {entries} has {len(entries)} dimensions, and {array.name} has {array.ndim}"
        )
    return tuple(
        length if entry is None or entry == -1 else int(entry)
        for entry, length in zip(entries, array.shape, strict=True)
    )


def check_given(variables: Variables, windows: Sequence[Any]) -> None:
    """Refuse windows that are given, and are others in one array than in the largest.

    Raises:
        SelectionError: they are, or do not fit into an array, or differ in shape.
    """
    largest = variables.largest
    others = [each.array for each in variables.all if each.array.shape != largest.shape]
    dues = [make_request(largest, key).selection for key in windows] if others else []
    for array in others:
        selections = [make_request(array, key).selection for key in windows]
        check_shapes(array, selections)
        for number, (selection, due) in enumerate(zip(selections, dues, strict=True)):
            if _places(selection, array, largest) != _places(due, largest, array):
                raise SelectionError(
                    f"windows[{number}] is another one in {array.name} of shape {array.shape} than"
                    f" in {largest.name} of shape {largest.shape}"
                )


def check_shapes(array: Array, windows: Sequence[Selection]) -> None:
    """Refuse windows that are given, and differ in shape.

    Raises:
        SelectionError: they do.
    """
    for number, window in enumerate(windows):
        if window.shape != windows[0].shape:
            raise SelectionError(
                f"windows must be of one shape: in {array.name} windows[0] has {windows[0].shape},"
                f" and windows[{number}] has {window.shape}"
            )


def _places(selection: Selection, array: Array, other: Array) -> list[object]:
    """What is selected along the leading dimensions in which two arrays differ."""
    found: list[object] = []
    for axis in selection.axes:
        dims = (axis.dim,) if isinstance(axis, Span) else axis.dims
        if all(dim >= other.ndim or array.shape[dim] == other.shape[dim] for dim in dims):
            continue
        if not isinstance(axis, Span):
            found.append((dims, axis.coords.tolist()))
        elif (axis.start, axis.step, axis.count) != (0, 1, array.shape[axis.dim]):
            found.append((dims, axis.start, axis.step, axis.count))
    return found


def check_alike(variables: Variables, crop: Sequence[int]) -> None:
    """Refuse arrays whose last dimensions are not those of the largest.

    Raises:
        SelectionError: they cannot be read at the same windows.
    """
    shape = variables.largest.shape
    for variable in variables.all:
        array = variable.array
        if array.shape != shape[len(shape) - array.ndim :]:
            raise SelectionError(
                f"{array.name} of shape {array.shape} cannot be cut at the same windows"
                f" {tuple(crop)} as {variables.largest.name} of shape {shape}: the last dimensions"
                " must be the same"
            )
