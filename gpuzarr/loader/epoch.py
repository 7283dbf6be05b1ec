"""From the arguments of a loader to the windows of any batch of any epoch, by arithmetic alone."""

from __future__ import annotations

import operator
import zlib
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gpuzarr.loader.order import EpochOrder, Split
from gpuzarr.loader.variables import check_shapes
from gpuzarr.loader.windows import GridWindows, RandomWindows, cell_of
from gpuzarr.many import make_request
from gpuzarr.plan.grid import grid_sizes
from gpuzarr.plan.selection import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.array import Array
    from gpuzarr.plan.selection import Selection

    Window = tuple[Any, ...]


class CropKey(tuple[slice, ...]):
    """A key that is a crop; arrays with fewer dimensions take its last entries."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GivenWindows:
    """Selections that the user lists, in the order in which they are numbered."""

    keys: tuple[Any, ...]
    order: tuple[int, ...]
    """With locality: neighbours one after another."""
    group: int
    digest: int
    """Of what the keys select."""

    @property
    def count(self) -> int:
        """Number of windows."""
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class EpochRules:
    """What all epochs of a loader have in common."""

    windows: GridWindows | RandomWindows | GivenWindows
    """Of epoch 0; random ones are others in each epoch."""
    shuffle: bool
    seed: int
    locality: int | None
    split: Split
    """The shares of the ranks."""
    batch_size: int
    drop_last: bool

    @classmethod
    def make(  # noqa: PLR0913  the arguments of a loader
        cls,
        array: Array,
        windows: str | Sequence[Any],
        *,
        crop: tuple[int, ...] | None,
        stride: int | Sequence[int] | None,
        samples: int | None,
        shuffle: bool,
        seed: int,
        locality: int | None,
        rank: int,
        world_size: int,
        remainder: Literal["keep", "drop", "pad"],
        batch_size: int,
        drop_last: bool,
    ) -> EpochRules:
        """Check the arguments of a loader; see there.

        Raises:
            SelectionError: windows that do not fit.
            ValueError: arguments that do not go together.
        """
        kind = windows if isinstance(windows, str) else "given"
        seed = operator.index(seed)
        if locality is not None:
            locality = at_least("locality", locality, 1)
        if (samples is not None) != (kind == "random"):
            raise ValueError('samples_per_epoch= is for windows="random", which need it')
        if stride is not None and kind != "grid":
            raise ValueError('stride= is for windows="grid"')
        found: GridWindows | RandomWindows | GivenWindows
        if not isinstance(windows, str):
            found = _given(array, windows, ordered=locality is not None and shuffle)
        elif kind not in {"grid", "random"}:
            raise ValueError(
                f'windows= is "grid", "random" or a sequence of selections, not {windows!r}'
            )
        else:
            assert crop is not None  # noqa: S101  the loader has asked for it
            cell = None if locality is None else cell_of(_object_shape(array), crop)
            if kind == "grid":
                steps = _steps(stride, crop)
                found = GridWindows(array.shape, crop, steps, cell if shuffle else None)
            else:
                count = at_least("samples_per_epoch", samples, 0)
                found = RandomWindows(array.shape, crop, count, seed, 0, cell, locality)
        return cls(
            found,
            bool(shuffle) and kind != "random",  # these are in random order already
            seed,
            locality,
            Split(found.count, rank, world_size, remainder),
            batch_size,
            bool(drop_last),
        )

    @property
    def length(self) -> int:
        """Windows of an epoch, on this rank."""
        return len(self.split)

    @property
    def nbatches(self) -> int:
        """Batches of an epoch, on this rank."""
        full, rest = divmod(self.length, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def epoch(self, number: int) -> Epoch:
        """One epoch."""
        return Epoch(self, number)

    def fingerprint(self) -> dict[str, Any]:
        """What a state must have in common with a loader to mean the same windows; for JSON."""
        windows: dict[str, Any]
        if isinstance(self.windows, GivenWindows):
            windows = {"windows": "given", "count": self.windows.count, "of": self.windows.digest}
        else:
            name = "grid" if isinstance(self.windows, GridWindows) else "random"
            windows = {"windows": name, **asdict(self.windows)}
            windows.pop("epoch", None)
        own = asdict(self.split) | {
            "shuffle": self.shuffle,
            "seed": self.seed,
            "locality": self.locality,
            "batch_size": self.batch_size,
            "drop_last": self.drop_last,
        }
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in (windows | own).items()
        }


class Epoch:
    """The windows of one epoch, on one rank."""

    def __init__(self, rules: EpochRules, number: int) -> None:
        """See `EpochRules.epoch`."""
        self.rules = rules
        self.number = number
        windows = rules.windows
        if isinstance(windows, RandomWindows):
            windows = replace(windows, epoch=number)
        self._windows = windows
        group = 1 if isinstance(windows, RandomWindows) else windows.group
        self._order = EpochOrder(
            windows.count, rules.seed, number, rules.shuffle, group, rules.locality
        )

    def batch(self, number: int) -> tuple[int, int]:
        """The first window of a batch, and one behind its last, counted on this rank."""
        first = number * self.rules.batch_size
        return first, min(first + self.rules.batch_size, self.rules.length)

    def batch_size_of(self, number: int) -> int:
        """Windows in a batch."""
        first, stop = self.batch(number)
        return stop - first

    def windows(self, first: int, stop: int) -> list[Window]:
        """Keys of this rank's windows from `first` to `stop`."""
        numbers = self._order.numbers(self.rules.split.positions(first, stop))
        windows = self._windows
        if isinstance(windows, GivenWindows):
            return [windows.keys[windows.order[number]] for number in numbers.tolist()]
        return [
            CropKey(slice(o, o + c) for o, c in zip(origin, windows.crop, strict=True))
            for origin in windows.origins(numbers).tolist()
        ]


def at_least(name: str, value: Any, least: int) -> int:
    """An integer argument that has a lower bound.

    >>> at_least("batch_size", 4, 1)
    4
    """
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name}={number} is less than {least}")
    return number


def _steps(stride: int | Sequence[int] | None, crop: tuple[int, ...]) -> tuple[int, ...]:
    if stride is None:
        return crop
    steps = (stride,) * len(crop) if isinstance(stride, int) else tuple(stride)
    if len(steps) != len(crop):
        raise ValueError(f"stride {steps} has {len(steps)} dimensions, and crop {len(crop)}")
    return tuple(at_least("stride", step, 1) for step in steps)


def _object_shape(array: Array) -> tuple[int, ...]:
    """The shape of a stored object, the largest along each dimension."""
    sizes = grid_sizes(array.metadata.chunk_grid)
    return tuple(size if isinstance(size, int) else max(size) for size in sizes)


def _given(array: Array, windows: Sequence[Any], *, ordered: bool) -> GivenWindows:
    """Windows that the user lists; each is checked."""
    keys = tuple(windows)
    selections = [make_request(array, key).selection for key in keys]
    check_shapes(array, selections)
    order = np.arange(len(keys))
    group = max(1, len(keys))
    if ordered and keys:
        origins = np.array([_origin(selection, array.ndim) for selection in selections], np.int64)
        cells = origins // np.array(_object_shape(array), np.int64) if array.ndim else origins
        order = np.lexsort(cells.T[::-1]) if array.ndim else order
        group = max(1, round(len(keys) / len(np.unique(cells, axis=0))))
    digest = 0
    for selection in selections:
        for axis in selection.axes:
            what = str(axis).encode() if isinstance(axis, Span) else axis.coords.tobytes()
            digest = zlib.crc32(what, digest)
    return GivenWindows(keys, tuple(order.tolist()), group, digest)


def _origin(selection: Selection, ndim: int) -> list[int]:
    """The first place of a selection along each dimension."""
    origin = [0] * ndim
    for axis in selection.axes:
        if isinstance(axis, Span):
            origin[axis.dim] = min(axis.start, axis.last) if axis.count else 0
        elif axis.count:
            for dim, first in zip(axis.dims, axis.coords.min(axis=0).tolist(), strict=True):
                origin[dim] = first
    return origin
