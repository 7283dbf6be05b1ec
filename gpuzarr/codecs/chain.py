"""What is known of a chunk at one place of its codec chain, and the decode steps found so far.

A chain is walked in encode order: from the array through array -> array codecs, one array -> bytes
codec and bytes -> bytes codecs to the stored bytes. Each codec's function looks at the `Chain`,
changes it, and appends the steps that undo it, so that the decode program is the list reversed.

    array --transpose--> array --delta--> array --bytes--> bytes --zstd--> stored bytes
                                CumulativeSum                      Decompress

Transposes are only noted at first. Element-wise steps work in any order of elements, so a transpose
slides past them towards the array and ends in the layout, unless a codec that sees the order of
elements (delta, a bit stream) stands in between: `ordered` then settles it with a `Reorder` step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from gpuzarr.errors import MetadataError
from gpuzarr.program import Cast, CumulativeSum, Layout, Reorder, ScaleOffset, Step, dtype_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from gpuzarr.metadata.model import DataType
    from gpuzarr.program import ShardLayout

Stage = Literal["array", "bytes"]
Sizes = tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Chain:
    """The state of a walk along a codec chain."""

    data_type: DataType
    """The array's own data type."""
    dtype: np.dtype
    """dtype of the elements here, in native byte order until they are bytes."""
    sizes: Sizes
    """For each axis here, the sizes that chunks have along it (several in rectilinear grids)."""
    fill_value: Any
    """What missing chunks hold; None where it is not known here."""
    bits: int | None = None
    """Significant bits of an element component of types narrower than a byte and of bool."""
    stage: Stage = "array"
    steps: list[Step] = field(default_factory=list)
    """Steps that undo the codecs so far, in encode order."""
    axes: tuple[int, ...] = ()
    """Axis order since the array, or since the last codec that saw the order of elements."""
    layout_axes: tuple[int, ...] | None = None
    """Axis order of the decoded chunk, once a codec that sees the order of elements was met."""
    segment_sizes: Sizes | None = None
    """The sizes right after that codec; None where they are the chunk's own."""
    layout_dtype: np.dtype | None = None
    """dtype of the decoded chunk, once it is known."""
    shard: ShardLayout | None = None
    """Set by a sharding codec; the steps are then those of its chunks."""
    object_steps: list[Step] = field(default_factory=list)
    """Steps of codecs after the sharding codec, in encode order."""
    reasons: list[str] = field(default_factory=list)
    """Why the chain is not supported, as full sentences."""
    foreign: set[str] = field(default_factory=set)
    """Codecs that only other packages may know."""
    nested: bool = False
    """Whether the chain is inside a sharding codec."""

    @property
    def ndim(self) -> int:
        """Number of axes here."""
        return len(self.sizes)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The chunk's shape here; None where chunks differ."""
        if all(len(sizes) == 1 for sizes in self.sizes):
            return tuple(sizes[0] for sizes in self.sizes)
        return None

    @property
    def untouched(self) -> bool:
        """Whether only transposes and element-wise codecs were met so far."""
        return self.layout_axes is None

    def push(self, step: Step) -> None:
        """Append a step that undoes the codec at hand."""
        (self.steps if self.shard is None else self.object_steps).append(step)

    def push_typed(
        self, step: CumulativeSum | ScaleOffset | Cast, encoded: np.dtype, *, order: bool = False
    ) -> None:
        """Append a step between dtypes; elements have dtype `encoded` from here on."""
        if self.stage == "array" and self.layout_dtype is None:
            self.layout_dtype = self.dtype
        if order:
            self.ordered()
        self.push(step)
        self.dtype = encoded
        self.bits = None

    def transpose(self, order: tuple[int, ...]) -> None:
        """Note a transpose: axis i of what comes next is axis `order[i]` here."""
        self.axes = tuple(self.axes[axis] for axis in order)
        self.sizes = tuple(self.sizes[axis] for axis in order)

    def ordered(self) -> None:
        """Settle the axis order, for a codec that sees the order of elements."""
        identity = tuple(range(self.ndim))
        if self.layout_axes is None:
            self.layout_axes = self.axes
            self.segment_sizes = None if self.axes == identity else self.sizes
        elif self.axes != identity:
            given = self.segment_sizes
            shape = None if given is None else _only_sizes(given)
            if given is not None and shape is None:
                self.refuse(
                    "a transpose behind a reshape or between codecs that depend on the order of "
                    "elements needs chunks of one shape, but the grid is rectilinear"
                )
            self.push(Reorder(self.dtype.itemsize, self.axes, shape))
            self.segment_sizes = self.sizes
        self.axes = identity

    def reshape(self, sizes: Sizes) -> None:
        """Note another shape of the same elements in the same order."""
        self.ordered()
        self.sizes = sizes
        self.segment_sizes = sizes
        self.axes = tuple(range(len(sizes)))

    def to_bytes(self, stored: np.dtype | None = None) -> None:
        """End the array stage; elements are stored as dtype `stored` (None: it does not matter)."""
        self.ordered()
        if stored is not None:
            self._store_as(stored)
        elif self.layout_dtype is None:
            self.layout_dtype = self.dtype
        self.stage = "bytes"

    def _store_as(self, stored: np.dtype) -> None:
        """Set the stored byte order, in the step nearest to the bytes or else in the layout."""
        for place in range(len(self.steps) - 1, -1, -1):
            step = self.steps[place]
            if isinstance(step, CumulativeSum | ScaleOffset | Cast):
                self.steps[place] = replace(step, encoded=dtype_name(stored))
                break
            if not isinstance(step, Reorder):
                break
        else:
            self.layout_dtype = stored
        self.dtype = stored

    def refuse(self, reason: str) -> None:
        """Note one reason why the chain is not supported."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    def inner(self, sizes: Sizes) -> Chain:
        """The chain inside a sharding codec here: it goes on with the axes and steps so far."""
        return replace(self, sizes=sizes, steps=list(self.steps), object_steps=[], nested=True)

    def layout(self) -> Layout:
        """The layout of decoded chunks, at the end of the chain."""
        dtype = self.dtype if self.layout_dtype is None else self.layout_dtype
        axes = self.axes if self.layout_axes is None else self.layout_axes
        return Layout(dtype, axes)

    def decode_steps(self) -> tuple[Step, ...]:
        """The steps in decode order."""
        return tuple(reversed(self.steps))


@dataclass(frozen=True, slots=True)
class Codec:
    """One row of the table of supported codecs."""

    kind: Literal["array -> array", "array -> bytes", "bytes -> bytes"]
    """What the codec does; numcodecs' filters also work on bytes, as Zarr v2 has them."""
    lower: Callable[[Chain, Mapping[str, Any]], None]
    """Changes the chain by the codec with the given configuration."""
    filter: bool = False
    """Whether it may stand among bytes -> bytes codecs too, whatever its kind."""

    def stages(self) -> tuple[Stage, ...]:
        """Where in a chain the codec may stand."""
        if self.filter:
            return ("array", "bytes")
        return ("bytes",) if self.kind == "bytes -> bytes" else ("array",)


def start_chain(data_type: DataType, dtype: np.dtype, sizes: Sizes, fill_value: object) -> Chain:
    """The chain in front of its first codec."""
    return Chain(data_type, dtype, sizes, fill_value, data_type.bits, axes=tuple(range(len(sizes))))


def element_count(chain: Chain) -> int:
    """Elements of the chunk here.

    Raises:
        MetadataError: chunks have several sizes.
    """
    if (shape := chain.shape) is None:
        raise MetadataError(
            "the codec chain needs chunks of one shape, but the grid is rectilinear"
        )
    return prod(shape)


def _only_sizes(sizes: Sizes) -> tuple[int, ...] | None:
    return None if any(len(each) != 1 for each in sizes) else tuple(each[0] for each in sizes)
