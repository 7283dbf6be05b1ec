"""Data sets of every kind that xarray writes to Zarr, drawn from a seed, and keys to index them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cftime
import numcodecs
import numpy as np
import xarray as xr
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.errors import UnstableSpecificationWarning, ZarrUserWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Random = np.random.Generator
    Draw = Callable[[Random, tuple[int, ...]], tuple[Any, dict[str, Any], dict[str, Any]]]
    """Values of a shape, attributes and encoding."""

CALENDARS = ("noleap", "360_day", "julian", "proleptic_gregorian")
WORDS = ("", "a", "Ärger", "longer text", "東京")


@dataclass
class Written:
    """A data set as it was written."""

    path: Path
    group: str | None
    consolidated: bool
    zarr_format: Literal[2, 3]


def write(folder: Path, seed: int) -> Written:
    """Draw a data set and write it."""
    random = np.random.default_rng(seed)
    zarr_format: Literal[2, 3] = (2, 3)[seed % 2]
    consolidated = seed % 4 < 2
    group = ("", "deep/below")[seed % 5 == 0] or None
    dataset = draw(random, zarr_format)
    with warnings.catch_warnings():
        # About consolidated metadata and fixed-length text in v3, which other readers may not know.
        warnings.simplefilter("ignore", ZarrUserWarning)
        warnings.simplefilter("ignore", UnstableSpecificationWarning)
        dataset.to_zarr(folder, group=group, zarr_format=zarr_format, consolidated=consolidated)
    return Written(folder, group, consolidated, zarr_format)


def draw(random: Random, zarr_format: int) -> xr.Dataset:
    """A data set with a time axis, its bounds, coordinates, and four variables."""
    limits_of = {"t": (1, 6), "y": (0, 5), "x": (1, 8)}
    sizes = {name: int(random.integers(*limits)) for name, limits in limits_of.items()}
    times = np.datetime64("2001-02-03", "ns") + np.arange(sizes["t"] + 1).astype("m8[D]")
    coords: dict[str, Any] = {
        "t": ("t", times[:-1], {"bounds": "t_bounds", "long_name": "time"}),
        "t_bounds": (("t", "end"), np.stack([times[:-1], times[1:]], axis=1)),
        "x": ("x", random.permutation(sizes["x"]) / 2, {"units": "degrees_east"}),
        "height": ((), 2.0, {"positive": "up"}),
        "area": (("y", "x"), random.random((sizes["y"], sizes["x"]))),
    }
    # xarray does not decode dates of other calendars where there are none.
    kinds = sorted(KINDS) if sizes["y"] else sorted(KINDS.keys() - {"calendar_dates"})
    variables = {}
    for name in random.permutation(kinds)[:4].tolist():
        dims = [dim for dim in sizes if random.random() < 0.6]
        values, attributes, encoding = KINDS[name](random, tuple(sizes[dim] for dim in dims))
        encoding |= draw_storage(random, [sizes[dim] for dim in dims], zarr_format)
        variables[name] = xr.Variable(dims, values, attributes, encoding)
    return xr.Dataset(variables, coords, {"title": "drawn", "levels": [1, 2], "none": None})


def draw_storage(random: Random, shape: Sequence[int], zarr_format: int) -> dict[str, Any]:
    """Chunks, shards and codecs."""
    chunks = tuple(int(random.integers(1, max(2, length + 1))) for length in shape)
    if zarr_format == 2:
        compressors = [None, numcodecs.Zlib(3), numcodecs.Zstd(1), numcodecs.Blosc("zstd", 2)]
        return {"chunks": chunks, "compressors": compressors[random.integers(4)]}
    chains: list[tuple[Any, ...]] = [
        (),
        (ZstdCodec(level=2), Crc32cCodec()),
        (BloscCodec(cname="lz4", typesize=4),),
        (GzipCodec(level=1),),
    ]
    storage: dict[str, Any] = {"chunks": chunks, "compressors": chains[random.integers(4)]}
    if shape and random.random() < 0.4:
        storage["shards"] = tuple(size * int(random.integers(1, 4)) for size in chunks)
    return storage


def draw_key(random: Random, dataset: xr.Dataset, kind: str) -> dict[Any, Any]:
    """Indexers for some dimensions: basic, outer or vectorised; of length 0 there are slices."""
    least = 1 if "calendar_dates" in dataset else 0
    key: dict[Any, Any] = {}
    for name, length in dataset.sizes.items():
        if random.random() < 0.25:
            continue
        if kind == "basic" and length and random.random() < 0.3:
            key[name] = int(random.integers(-length, length))
        elif kind == "basic" or not length:
            begin, end = random.integers(0, max(1, length), 2).tolist()
            step = int(random.choice([1, 2, -1, -2]))
            key[name] = slice(begin, None if least else end, step)
        elif kind == "outer":
            key[name] = random.integers(-length, length, random.integers(least, 6))
        else:
            key[name] = xr.DataArray(random.integers(0, length, 3), dims="place")
    return key


def _integers(random: Random, shape: tuple[int, ...]) -> Any:
    dtype = np.dtype(str(random.choice(["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])))
    return random.integers(0, 100, shape).astype(dtype), {"units": "1"}, {}


def _floats(random: Random, shape: tuple[int, ...]) -> Any:
    values = random.normal(size=shape).astype(str(random.choice(["f2", "f4", "f8"])))
    return np.where(random.random(shape) < 0.3, values.dtype.type("nan"), values), {}, {}


def _unfilled(random: Random, shape: tuple[int, ...]) -> Any:
    return random.normal(size=shape), {}, {"_FillValue": None}


def _packed(random: Random, shape: tuple[int, ...]) -> Any:
    values = np.where(random.random(shape) < 0.3, np.nan, random.integers(0, 90, shape) / 4 - 3)
    encoding = {"dtype": "int16", "scale_factor": 0.25, "add_offset": -3.0, "_FillValue": -999}
    return values, {"units": "K"}, encoding


def _masked(random: Random, shape: tuple[int, ...]) -> Any:
    values = np.where(random.random(shape) < 0.3, np.nan, random.integers(0, 90, shape))
    return values.astype("f4"), {}, {"dtype": "float32", "_FillValue": np.float32(-1)}


def _unsigned(random: Random, shape: tuple[int, ...]) -> Any:
    values = np.where(random.random(shape) < 0.3, np.nan, random.integers(0, 250, shape))
    return values, {}, {"dtype": "int8", "_Unsigned": "true", "_FillValue": np.int8(-1)}


def _bools(random: Random, shape: tuple[int, ...]) -> Any:
    return random.random(shape) < 0.5, {}, {}


def _complex(random: Random, shape: tuple[int, ...]) -> Any:
    return random.normal(size=shape) + 1j * random.normal(size=shape), {}, {}


def _datetimes(random: Random, shape: tuple[int, ...]) -> Any:
    hours = random.integers(0, 10**5, shape).astype("m8[h]")
    encoding = {"units": "hours since 1980-01-01", "dtype": "int64"}
    return (np.datetime64("1990-01-01", "ns") + hours).astype("M8[ns]"), {}, encoding


def _calendar_dates(random: Random, shape: tuple[int, ...]) -> Any:
    calendar = str(random.choice(CALENDARS))
    days = random.integers(0, 9999, shape)
    dates = np.asarray(cftime.num2date(days, "days since 1999-01-01", calendar), object)
    encoding = {"units": "days since 1999-01-01", "calendar": calendar, "dtype": "int64"}
    return dates.reshape(shape), {}, encoding


def _timedeltas(random: Random, shape: tuple[int, ...]) -> Any:
    return random.integers(0, 10**6, shape).astype("m8[s]").astype("m8[ns]"), {}, {}


def _strings(random: Random, shape: tuple[int, ...]) -> Any:
    return random.choice(np.array(WORDS, object), shape), {}, {}


def _text(random: Random, shape: tuple[int, ...]) -> Any:
    return np.asarray(random.choice(np.array(WORDS), shape)), {}, {}


def _bytes(random: Random, shape: tuple[int, ...]) -> Any:
    return np.asarray(random.choice(np.array([b"", b"a", b"two"]), shape)), {}, {}


KINDS: dict[str, Draw] = {
    "integers": _integers,
    "floats": _floats,
    "unfilled": _unfilled,
    "packed": _packed,
    "masked": _masked,
    "unsigned": _unsigned,
    "bools": _bools,
    "complex": _complex,
    "datetimes": _datetimes,
    "calendar_dates": _calendar_dates,
    "timedeltas": _timedeltas,
    "strings": _strings,
    "text": _text,
    "bytes": _bytes,
}
