"""Values for the cases: reproducible, with the awkward ones among them.

Half of every array is smooth, so that compressors find something; the rest is random bits and the
edges of the type (infinities, NaN, both zeros, denormals, smallest and largest integers, NaT).
About every fourth chunk is the fill value, so that writers leave it out and readers must fill.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from .values import is_small

WORDS = ["", "a", "zarr", "ünï", "日本語", "🦀 crab", "x" * 40, "tab\there", "ß", "Ω≈ç"]
BLOBS = [b"", b"\0", b"zarr", b"\xff\x00\xfe", bytes(range(40)), b"trailing\0", b"a"]


def numbers(dtype: Any, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Values of any fixed-size type, native byte order."""
    dtype = np.dtype(dtype).newbyteorder("=")
    count = int(np.prod(shape, dtype=np.int64))
    rng = np.random.default_rng(seed + 7919 * dtype.itemsize + ord(dtype.kind))
    return _flat(dtype, count, rng).reshape(shape)


def _flat(dtype: np.dtype[Any], count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:  # noqa: C901 - one case after another
    if dtype.names is not None:
        out = np.zeros(count, dtype)
        for name in dtype.names:
            base, inner = dtype[name].base, dtype[name].shape
            values = _flat(base, count * int(np.prod(inner, dtype=np.int64)), rng)
            out[name] = values.reshape((count, *inner))
        return out
    if is_small(dtype):
        return _small(dtype, count, rng)
    if dtype.kind == "b":
        return rng.integers(0, 2, count).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        out = rng.integers(info.min, info.max, count, dtype=dtype, endpoint=True)
        smooth = np.arange(count, dtype=np.int64) % 100
        out[: count // 2] = smooth[: count // 2].astype(dtype)
        return _sprinkle(out, np.array([info.min, info.max, 0, 1], dtype), rng)
    if dtype.kind == "f":
        out = rng.standard_normal(count).astype(dtype)
        out[: count // 2] = (np.arange(count // 2) / 8).astype(dtype)
        limits = np.finfo(dtype)
        edges = [np.nan, np.inf, -np.inf, -0.0, 0.0]
        edges += [limits.max, limits.tiny, limits.smallest_subnormal]
        return _sprinkle(out, np.array(edges, dtype), rng)
    if dtype.kind == "c":
        part = np.dtype(f"f{dtype.itemsize // 2}")
        out = np.empty(count, dtype)
        out.real, out.imag = _flat(part, count, rng), _flat(part, count, rng)
        return out
    if dtype.kind in "mM":
        span = 30_000 if dtype.kind == "M" else 2**40
        out = rng.integers(-span, span, count).astype("i8")
        return _sprinkle(out, np.array([np.iinfo("i8").min], "i8"), rng).view(dtype)
    if dtype.kind == "S":
        raw = rng.integers(1, 256, (count, dtype.itemsize), dtype=np.uint8)
        return np.array(
            [row[: n % (dtype.itemsize + 1)].tobytes() for n, row in enumerate(raw)], dtype
        )
    if dtype.kind == "U":
        letters, width = "az 0Éß語🦀", dtype.itemsize // 4
        picks = rng.integers(0, len(letters), (count, max(width, 1)))
        words = [
            "".join(letters[p] for p in row[: n % (width + 1)]).rstrip("\0")
            for n, row in enumerate(picks)
        ]
        return np.array(words, dtype)
    assert dtype.kind == "V", dtype
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype).copy()


def _small(dtype: np.dtype[Any], count: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Every bit pattern of a small type, in order and then at random."""
    name = dtype.name
    if name.startswith(("int", "uint")):
        width = int(name.removeprefix("u").removeprefix("int"))
        low = 0 if name.startswith("u") else -(2 ** (width - 1))
        values = (
            np.concatenate(
                [np.arange(count // 2) % 2**width, rng.integers(0, 2**width, count - count // 2)]
            )
            + low
        )
        return values.astype(np.int8).astype(dtype)
    width = 8 * dtype.itemsize
    for bits in (4, 6):
        if name.startswith(f"float{bits}_"):
            width = bits
    patterns = np.concatenate(
        [np.arange(count // 2) * 37 % 2**width, rng.integers(0, 2**width, count - count // 2)]
    )
    return patterns.astype(f"u{dtype.itemsize}").view(dtype)


def _sprinkle(
    values: np.ndarray[Any, Any], edges: np.ndarray[Any, Any], rng: np.random.Generator
) -> np.ndarray[Any, Any]:
    """Put each edge value in a few places."""
    if values.size >= 2 * edges.size:
        places = rng.choice(values.size, 2 * edges.size, replace=False)
        values[places] = np.concatenate([edges, edges])
    elif values.size:
        values[:] = np.resize(edges, values.size)
    return values


def texts(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Strings of many lengths, as objects."""
    return _objects(WORDS, shape, seed)


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Byte strings of many lengths, as objects."""
    return _objects(BLOBS, shape, seed)


def _objects(pool: list[Any], shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    out = np.empty(int(np.prod(shape, dtype=np.int64)), dtype=object)
    for position, pick in enumerate(rng.integers(0, len(pool), out.size)):
        out[position] = pool[pick]
    return out.reshape(shape)


def smooth(dtype: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Finite values on a slow curve, exact in every float type: for lossy codecs."""
    count = int(np.prod(shape, dtype=np.int64))
    values = np.cumsum(np.random.default_rng(count).integers(-3, 4, count)).astype("i8")
    values = values - values.min(initial=0)
    scaled = values / 4 if np.dtype(dtype).kind == "f" else values % 120
    return np.asarray(scaled.astype(dtype).reshape(shape))


def chunk_slices(shape: tuple[int, ...], chunks: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The region of every chunk of a regular grid, clipped to the array, in C order."""
    axes = [range(0, extent, step) for extent, step in zip(shape, chunks, strict=True)]
    return [
        tuple(
            slice(low, min(low + step, extent))
            for low, step, extent in zip(corner, chunks, shape, strict=True)
        )
        for corner in itertools.product(*axes)
    ]


def leave_out(
    values: np.ndarray[Any, Any],
    chunks: tuple[int, ...],
    fill: Any,
    *,
    every: int = 4,
    first: int = 2,
) -> np.ndarray[Any, Any]:
    """Set every fourth chunk to the fill value, in place."""
    for region in chunk_slices(values.shape, chunks)[first::every]:
        values[region] = fill
    return values
