"""OME-Zarr: images as pyramids of arrays, read by place and pixel size instead of by index.

The metadata are those of OME-Zarr 0.1 to 0.5 (https://ngff.openmicroscopy.org/0.5/): `multiscales`
in a group's attributes, from 0.5 on below `ome`. Where a pixel lies:

    place = scale * index + translation

with the transformations of a level first and those of the whole image behind them. This is taken
as the middle of the pixel. Needs nothing beyond gpuzarr.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

from gpuzarr.api import open_group
from gpuzarr.array import Array
from gpuzarr.errors import MetadataError, NotFoundError, SelectionError, UnsupportedError
from gpuzarr.group import Group

if TYPE_CHECKING:
    from gpuzarr.api import OpenArguments, StoreLike
    from gpuzarr.engines.engine import DeviceArray

    Range = tuple[float, float] | slice | int

OLD_AXES = ("t", "c", "z", "y", "x")
"""The axes of versions 0.1 and 0.2, which do not name them."""
OLD_KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
"""What the axes of version 0.3 are, which names them only."""

DIGITS = 6
"""Decimals of a pixel: what is nearer to a pixel's middle is at it."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A dimension of an image."""

    name: str
    kind: str | None
    """"space", "time" or "channel", or what else the metadata say."""
    unit: str | None
    """As the metadata give it: "micrometer", "second", ..."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """One resolution of an image."""

    array: Array
    scale: tuple[float, ...]
    """Distance of neighbouring pixels along each axis, in the axis's unit."""
    translation: tuple[float, ...]
    """Where the middle of the first pixel lies."""


@dataclass(frozen=True, slots=True, eq=False)
class Pyramid:
    """An image at several resolutions.

    >>> from gpuzarr.integrations.ome_zarr import open_pyramid
    >>> pyramid = open_pyramid(image)
    >>> pyramid
    <Pyramid of 3 levels: 64 x 96 (y, x), 0.5 x 0.5 micrometer, to 16 x 24, 2.0 x 2.0>
    >>> pyramid.read(pixel_size=1, y=(8, 16), x=(0, 24)).shape
    (8, 24)
    """

    name: str
    axes: tuple[Axis, ...]
    levels: tuple[Level, ...]
    """The finest first."""

    def level_for(self, pixel_size: float | Mapping[str, float]) -> Level:
        """The coarsest level whose pixels are not larger, or the finest if all are.

        Args:
            pixel_size: for all axes of space, or by axis; in their units. Along an axis where
                even the finest level has larger pixels, that level's are meant.
        """
        wanted = self._sizes(pixel_size)
        finest = self.levels[0]

        def is_fine(level: Level) -> bool:
            return all(
                level.scale[number] <= max(size, finest.scale[number]) * (1 + 10**-DIGITS)
                for number, size in wanted.items()
            )

        return [level for level in self.levels if is_fine(level)][-1]

    def key(self, level: Level, **ranges: Range) -> tuple[slice | int, ...]:
        """The selection of a level's array that a region is: `level.array[pyramid.key(...)]`.

        Args:
            level: one of `levels`.
            **ranges: as in `read`.
        """
        unknown = [name for name in ranges if name not in self._names]
        if unknown:
            raise SelectionError(
                f"{self.name or 'the image'} has no axis {unknown[0]!r}, but {self._shown_names}"
            )
        return tuple(
            self._indexes(level, number, ranges.get(name, slice(None)))
            for number, name in enumerate(self._names)
        )

    def read(
        self,
        *,
        pixel_size: float | Mapping[str, float] | None = None,
        dtype: Any = None,
        **ranges: Range,
    ) -> DeviceArray:
        """Read a region, from the level that is as fine as needed and no finer.

        Args:
            pixel_size: as in `level_for`; None for the finest level.
            dtype: as in `Array.read`.
            **ranges: by the names of axes: a pair (low, high) in the axis's unit for the pixels
                whose middles lie in [low, high), so far as the image goes; a slice of pixels; or
                the number of one, which drops the axis. An axis that is left out is read whole.

        Returns:
            An array with the axes of the image, in their order, on the device of the pyramid.

        Raises:
            SelectionError: a range that the image does not touch, or an axis that there is not.
        """
        level = self.levels[0] if pixel_size is None else self.level_for(pixel_size)
        result: DeviceArray = level.array.read(self.key(level, **ranges), dtype=dtype)
        return result

    def __repr__(self) -> str:
        finest, coarsest = self.levels[0], self.levels[-1]
        space = [number for number, axis in enumerate(self.axes) if axis.kind == "space"]

        def shown(level: Level) -> tuple[str, str]:
            return (
                " x ".join(map(str, level.array.shape)),
                " x ".join(f"{level.scale[number]:.4}" for number in space),
            )

        (shape, size), (last_shape, last_size) = shown(finest), shown(coarsest)
        units = dict.fromkeys(self.axes[number].unit or "pixels" for number in space)
        name = f" {self.name!r}" if self.name else ""
        text = f"<Pyramid{name} of {len(self.levels)} levels: {shape} ({self._shown_names}), {size}"
        text += f" {', '.join(units)}"
        return text + (f", to {last_shape}, {last_size}>" if coarsest is not finest else ">")

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def _shown_names(self) -> str:
        return ", ".join(self._names)

    def _sizes(self, pixel_size: float | Mapping[str, float]) -> dict[int, float]:
        """The wanted size of pixels along some axes, by their numbers."""
        if not isinstance(pixel_size, Mapping):
            pixel_size = {axis.name: pixel_size for axis in self.axes if axis.kind == "space"}
        for name, size in pixel_size.items():
            if name not in self._names:
                raise ValueError(f"pixel_size: there is no axis {name!r}, but {self._shown_names}")
            if not size > 0:
                raise ValueError(f"pixel_size={size!r}: must be more than 0")
        return {self._names.index(name): size for name, size in pixel_size.items()}

    def _indexes(self, level: Level, number: int, wanted: Range) -> slice | int:
        """What a range means along one axis."""
        if not isinstance(wanted, tuple):
            return wanted
        scale, translation = level.scale[number], level.translation[number]
        axis, length = self.axes[number], level.array.shape[number]
        if len(wanted) != len(("low", "high")) or not wanted[0] < wanted[1]:
            raise SelectionError(f"{axis.name}={wanted}: must be (low, high) with low < high")
        places = (min(max((end - translation) / scale, 0), length) for end in wanted)
        begin, end = (math.ceil(round(place, DIGITS)) for place in places)
        if begin == end:
            last = translation + scale * (length - 1)
            raise SelectionError(
                f"{axis.name}={wanted}: no pixel's middle is there; they are {scale:g}"
                f" {axis.unit or 'pixels'} apart, from {translation:g} to {last:g}"
            )
        return slice(begin, end)


def open_pyramid(
    store: StoreLike | Group, *, image: int | str = 0, **arguments: Unpack[OpenArguments]
) -> Pyramid:
    """Open an image of OME-Zarr.

    Args:
        store: as in `gpuzarr.open`, with the image's group at `path`; or that group.
        image: which of the group's multiscales: its number, or its name.
        **arguments: as in `gpuzarr.open`; not with a group, which has its own.

    Raises:
        NotFoundError: no group there, or an array of the pyramid is missing.
        MetadataError: the group is not an image, or its metadata break the specification.
        UnsupportedError: transformations that are no scales and translations.
    """
    group = store if isinstance(store, Group) else open_group(store, **arguments)
    attributes = group.attrs.get("ome", group.attrs)
    try:
        return _make_pyramid(group, _choose(attributes, image))
    except (MetadataError, UnsupportedError) as error:
        raise error.at(store=group.store.name, path=group.path) from None


def _choose(attributes: Any, image: int | str) -> Mapping[str, Any]:
    """The document of one image of a group."""
    images = attributes.get("multiscales") if isinstance(attributes, Mapping) else None
    if not isinstance(images, Sequence) or not images:
        raise MetadataError(
            "not an image of OME-Zarr: there are no `multiscales` in the attributes"
            + _hint(attributes)
        )
    for number, document in enumerate(images):
        if isinstance(document, Mapping) and image in {number, document.get("name")}:
            return document
    raise MetadataError(f"there is no image {image!r} among {len(images)} multiscales")


def _hint(attributes: Any) -> str:
    """Where images are in groups that hold several."""
    if not isinstance(attributes, Mapping):
        return ""
    if "plate" in attributes:
        return "; it is a plate: open the image of a field of a well, as path='A/1/0'"
    if "well" in attributes:
        return "; it is a well: open the image of a field, as path='0'"
    if "bioformats2raw.layout" in attributes:
        return "; it is a collection: open one of its images, as path='0'"
    return ""


def _make_pyramid(group: Group, document: Mapping[str, Any]) -> Pyramid:
    datasets = document.get("datasets")
    if not isinstance(datasets, Sequence) or not datasets:
        raise MetadataError("multiscales: `datasets` must list the levels")
    arrays = [_open_level(group, dataset) for dataset in datasets]
    ndim = arrays[0].ndim
    axes = _axes(document, ndim)
    if any(array.ndim != ndim for array in arrays) or len(axes) != ndim:
        raise MetadataError(f"multiscales: {len(axes)} axes, but arrays {_shapes(arrays)}")
    levels = []
    for dataset, array in zip(datasets, arrays, strict=True):
        scale, translation = _transform(dataset.get("coordinateTransformations"), ndim)
        if "coordinateTransformations" not in dataset:  # before 0.4 shapes were all there was
            scale = [a / max(1, b) for a, b in zip(arrays[0].shape, array.shape, strict=True)]
            translation = [(factor - 1) / 2 for factor in scale]  # edges lie on edges
        outer_scale, outer = _transform(document.get("coordinateTransformations"), ndim)
        levels.append(
            Level(
                array,
                tuple(a * b for a, b in zip(outer_scale, scale, strict=True)),
                tuple(a * b + c for a, b, c in zip(outer_scale, translation, outer, strict=True)),
            )
        )
    return Pyramid(str(document.get("name") or ""), axes, tuple(levels))


def _open_level(group: Group, dataset: Any) -> Array:
    path = dataset.get("path") if isinstance(dataset, Mapping) else None
    if not isinstance(path, str):
        raise MetadataError(f"multiscales: a level needs a `path`, and {dataset!r} has none")
    try:
        node = group[path]
    except KeyError as error:
        raise NotFoundError(f"the level {path!r} is not stored: {error}") from error
    if not isinstance(node, Array):
        raise MetadataError(f"multiscales: the level {path!r} is a group, not an array")
    return node


def _axes(document: Mapping[str, Any], ndim: int) -> tuple[Axis, ...]:
    axes = document.get("axes", OLD_AXES[-ndim:])
    found = []
    for axis in axes:
        if isinstance(axis, str):
            found.append(Axis(axis, OLD_KINDS.get(axis), None))
        elif isinstance(axis, Mapping) and isinstance(axis.get("name"), str):
            found.append(Axis(axis["name"], axis.get("type"), axis.get("unit")))
        else:
            raise MetadataError(f"multiscales: an axis needs a `name`, and {axis!r} has none")
    names = [axis.name for axis in found]
    if len(set(names)) != len(names):
        raise MetadataError(f"multiscales: axes of one name: {', '.join(names)}")
    return tuple(found)


def _transform(document: Any, ndim: int) -> tuple[list[float], list[float]]:
    """The scale and the translation that a list of transformations is, in their order."""
    scale, translation = [1.0] * ndim, [0.0] * ndim
    for step in document or ():
        kind = step.get("type") if isinstance(step, Mapping) else None
        if kind == "identity":
            continue
        if kind not in {"scale", "translation"} or "path" in step:
            raise UnsupportedError(
                f"coordinateTransformations: {step!r}: only scales and translations are read, with"
                " their numbers in the metadata"
            )
        values = _numbers(step.get(kind), ndim, step)
        if kind == "translation":
            translation = [a + b for a, b in zip(translation, values, strict=True)]
            continue
        if not all(value > 0 for value in values):
            raise MetadataError(f"coordinateTransformations: {step!r}: scales must be more than 0")
        scale = [a * b for a, b in zip(scale, values, strict=True)]
        translation = [a * b for a, b in zip(translation, values, strict=True)]
    return scale, translation


def _numbers(values: Any, ndim: int, step: Any) -> list[float]:
    if (
        isinstance(values, Sequence)
        and len(values) == ndim
        and all(isinstance(value, (int, float)) and math.isfinite(value) for value in values)
    ):
        return [float(value) for value in values]
    raise MetadataError(f"coordinateTransformations: {step!r}: must be {ndim} numbers")


def _shapes(arrays: Sequence[Array]) -> str:
    return ", ".join(str(array.shape) for array in arrays)
