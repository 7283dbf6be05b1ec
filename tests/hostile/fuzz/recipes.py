"""Arrays of every kind that zarr-python writes, drawn from bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import zarr
from zarr import codecs as z

from tests.conformance.samples import blobs, numbers, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.hostile.fuzz.draw import Draw

    Values = np.ndarray[Any, Any]

MOST_AXES, LONGEST_AXIS, MOST_ELEMENTS = 4, 13, 1_500
RECORD = [("x", "<i2"), ("y", "<f8"), ("name", "S3"), ("flag", "?")]
NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")
OTHERS = ("M8[s]", "M8[25ns]", "m8[D]", "S4", "U3", "V5", "record", "text", "blobs")
HAS_RECTILINEAR = tuple(map(int, zarr.__version__.split(".")[:2])) >= (3, 4)


class NotWrittenError(Exception):
    """zarr-python does not write this."""


@dataclass
class Recipe:
    """What to write."""

    zarr_format: int
    values: Values
    arguments: dict[str, Any]
    """Of `zarr.create_array`."""
    parts: list[tuple[slice, ...]]
    """What of it is written."""
    is_object: bool

    def write(self, store: Any) -> None:
        """Write it.

        Raises:
            NotWrittenError: zarr-python says no.
        """
        try:
            create: Any = zarr.create_array
            array = create(store, zarr_format=self.zarr_format, **self.arguments)
            for part in self.parts:
                array[part] = self.values[part]
        except Exception as error:
            raise NotWrittenError(str(error)) from error


def draw_recipe(draw: Draw) -> Recipe:
    """An array, of which zarr-python may still say that it cannot be."""
    zarr_format = draw.choice((3, 2, 3))
    shape = _draw_shape(draw)
    name = draw.choice((*NUMBERS, *NUMBERS, *OTHERS))
    values, dtype = _draw_values(draw, name, shape, zarr_format)
    arguments: dict[str, Any] = {"shape": shape, "dtype": dtype}
    arguments["fill_value"] = _draw_fill(draw, values, name, zarr_format)
    chunks = tuple(draw.integer(1, max(1, n + 1)) for n in shape)
    arguments["chunks"] = chunks
    if zarr_format == 2:
        arguments |= _draw_v2(draw, values.dtype, name)
        sums = any(isinstance(each, numcodecs.Delta) for each in arguments.get("filters") or ())
        if sums and values.dtype.kind == "f" and np.dtype(dtype).byteorder == ">":
            # What is summed is in the other byte order: bits of NaNs become numbers again.
            raise NotWrittenError
    else:
        arguments |= _draw_v3(draw, chunks, name)
    if draw.integer(0, 3) == 0 and not shape:
        parts = []
    else:
        parts = [_draw_part(draw, shape) for _ in range(1 + draw.integer(0, 1))]
    return Recipe(zarr_format, values, arguments, parts, name in {"text", "blobs"})


def _draw_shape(draw: Draw) -> tuple[int, ...]:
    shape: list[int] = []
    for _ in draw.some(MOST_AXES):
        longest = min(LONGEST_AXIS, MOST_ELEMENTS // max(1, int(np.prod(shape))))
        shape.append(0 if draw.integer(0, 30) == 1 else draw.integer(1, max(1, longest)))
    return tuple(shape)


def _draw_values(
    draw: Draw, name: str, shape: tuple[int, ...], zarr_format: int
) -> tuple[Values, Any]:
    """Values, and the dtype that zarr-python is told."""
    seed = draw.integer(0, 7)
    if name == "text":
        return texts(shape, seed), "string"
    if name == "blobs":
        if zarr_format == 2:
            raise NotWrittenError
        from zarr.dtype import VariableLengthBytes  # noqa: PLC0415  since 3.1

        return blobs(shape, seed), VariableLengthBytes()
    if name == "record":
        record = np.dtype(RECORD)
        return numbers(record, shape, seed), record
    native = np.dtype(name)
    order: Any = draw.choice("<>") if zarr_format == 2 else "="
    return numbers(native, shape, seed), native.newbyteorder(order)


def _draw_fill(draw: Draw, values: Values, name: str, zarr_format: int) -> Any:
    if name == "text":
        return draw.choice(("", "fill"))
    if name == "blobs":
        return draw.choice((b"", b"\0f"))
    samples = numbers(values.dtype, (9,), draw.integer(0, 5))
    if zarr_format == 2 and draw.integer(0, 5) == 0:
        if name == "record":  # zarr-python casts the number 0 to every field, text too
            raise NotWrittenError
        return None
    return np.zeros((), values.dtype)[()] if draw.flag() else samples[draw.integer(0, 8)]


def _draw_part(draw: Draw, shape: Sequence[int]) -> tuple[slice, ...]:
    if draw.flag():
        return tuple(slice(None) for _ in shape)
    return tuple(slice(draw.integer(0, n // 2), draw.integer(n // 2, n)) for n in shape)


# ----------------------------------------------------------------------------------------- v2


def _draw_v2(draw: Draw, dtype: np.dtype[Any], name: str) -> dict[str, Any]:
    compressors: tuple[Any, ...] = (
        *(None, numcodecs.Zlib(1), numcodecs.GZip(1), numcodecs.BZ2(1), numcodecs.LZ4()),
        *(numcodecs.LZMA(preset=0), numcodecs.Zstd(1), numcodecs.Zstd(3, checksum=True)),
        *(
            numcodecs.Blosc(cname, 5, shuffle, blocksize)
            for cname in ("lz4", "lz4hc", "blosclz", "zlib", "zstd")
            for shuffle, blocksize in ((0, 0), (1, 64), (2, 0))
        ),
    )
    chosen: dict[str, Any] = {
        "compressors": draw.choice(compressors),
        "order": draw.choice("CF"),
        "chunk_key_encoding": {"name": "v2", "separator": draw.choice("./")},
    }
    filters: list[Any] = []
    size = dtype.itemsize
    if name in NUMBERS and name != "b1" and draw.integer(0, 2) == 0:
        if dtype.kind in "iu":
            filters.append(numcodecs.Delta(dtype.str))
        elif dtype.kind == "f":
            filters.append(
                draw.choice((numcodecs.Quantize(2, dtype.str), numcodecs.Delta(dtype.str)))
            )
    if name == "b1" and draw.flag():
        filters.append(numcodecs.PackBits())
    if name in NUMBERS and draw.integer(0, 2) == 0:
        checks = (
            numcodecs.CRC32(),
            numcodecs.Adler32(),
            numcodecs.Fletcher32(),
            numcodecs.CRC32C(),
        )
        filters.append(draw.choice((numcodecs.Shuffle(size), *checks)))
    if filters:
        chosen["filters"] = filters
    return chosen


# ----------------------------------------------------------------------------------------- v3


def _draw_v3(draw: Draw, chunks: tuple[int, ...], name: str) -> dict[str, Any]:
    chosen: dict[str, Any] = {
        "compressors": _draw_compressors(draw),
        "chunk_key_encoding": {
            "name": draw.choice(("default", "v2")),
            "separator": draw.choice("./"),
        },
    }
    ndim = len(chunks)
    endian = draw.choice(("little", "big"))
    if name not in {"text", "blobs"}:
        chosen["serializer"] = z.BytesCodec(endian=endian)
    filters: list[Any] = []
    if ndim > 1 and draw.integer(0, 2) == 0:
        order = list(range(ndim))
        order.insert(draw.integer(0, ndim - 1), order.pop(draw.integer(0, ndim - 1)))
        filters.append(z.TransposeCodec(order=order))
    kind = draw.integer(0, 5)
    if kind < 3 and ndim:
        chosen |= _draw_shards(draw, chunks, chosen, filters, kind)
    elif kind == 3 and HAS_RECTILINEAR and ndim and draw.flag():
        chosen["chunks"] = [_draw_edges(draw) for _ in chunks]
    if filters and "shards" not in chosen:
        chosen["filters"] = filters
    return chosen


def _draw_compressors(draw: Draw) -> Any:
    blosc = z.BloscCodec(
        cname=draw.choice(("lz4", "zstd", "zlib", "blosclz", "lz4hc")),
        shuffle=draw.choice(("noshuffle", "shuffle", "bitshuffle")),
        typesize=draw.choice((4, 1, 2, 8)),
    )
    chains: tuple[Any, ...] = (
        *(None, z.GzipCodec(level=1), z.ZstdCodec(level=1), z.ZstdCodec(level=3, checksum=True)),
        *(blosc, blosc, z.Crc32cCodec(), [z.ZstdCodec(), z.Crc32cCodec()]),
        *([z.GzipCodec(level=1), z.ZstdCodec(level=1)], [blosc, z.Crc32cCodec()]),
    )
    return draw.choice(chains)


def _draw_shards(
    draw: Draw, chunks: tuple[int, ...], chosen: dict[str, Any], filters: list[Any], kind: int
) -> dict[str, Any]:
    """Shards by the argument, by the codec itself, or shards in shards."""
    shards = tuple(c * draw.integer(1, 3) for c in chunks)
    where = draw.choice(("end", "start"))
    if kind == 0 or "serializer" not in chosen:
        return {"shards": {"shape": shards, "index_location": where}}
    compressors = chosen["compressors"]
    inner = [chosen["serializer"], *(compressors if isinstance(compressors, list) else [])]
    if compressors is not None and not isinstance(compressors, list):
        inner.append(compressors)
    index = [z.BytesCodec(endian=draw.choice(("little", "big")))]
    checked: list[Any] = [*index, z.Crc32cCodec()] if draw.flag() else [*index]
    made = z.ShardingCodec(
        chunk_shape=chunks, codecs=[*filters, *inner], index_codecs=checked, index_location=where
    )
    filters.clear()
    if kind == 2:
        outer = tuple(s * draw.integer(1, 2) for s in shards)
        made = z.ShardingCodec(chunk_shape=shards, codecs=[made], index_location=where)
        shards = outer
    after = draw.choice((None, None, None, z.GzipCodec(level=1), z.Crc32cCodec()))
    return {"serializer": made, "chunks": shards, "compressors": after}


def _draw_edges(draw: Draw) -> list[int]:
    """Sizes of chunks that cover any axis."""
    sizes = [draw.integer(1, 5) for _ in range(1 + draw.integer(0, 3))]
    return [*sizes, LONGEST_AXIS]
