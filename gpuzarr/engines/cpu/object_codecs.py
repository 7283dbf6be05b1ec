"""Codecs of objects: strings, bytes, arrays, categories, and whatever JSON and MessagePack can say.

Counts, lengths and shapes in the data are held against the chunk's own before anything is made of
them, and nothing here runs code that the data bring along.
"""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.vlen import VLenBytes, VLenUTF8

from gpuzarr.engines.cpu.configuration import load
from gpuzarr.engines.step_error import DamageError, expect_nbytes
from gpuzarr.metadata.document import MAX_DIMENSIONS, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cpu.prepared import Limit, Run
    from gpuzarr.program import HostOnly

    Make = Callable[[HostOnly, int | None, Limit, tuple[int, ...]], Run]

COUNT = 4
"""Bytes of the count in front of variable-length elements, and of each length."""


# ----------------------------------------------------------------- variable-length elements


def _vlen(codec: VLenUTF8 | VLenBytes) -> Make:
    def make(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
        del step, nbytes, limit
        count = prod(shape)

        def decode_vlen(encoded: memoryview, target: memoryview | None) -> np.ndarray:
            del target
            check_count(encoded, count)
            # numcodecs checks each length before it copies.
            return np.asarray(codec.decode(encoded))

        return decode_vlen

    return make


def check_count(encoded: memoryview, count: int) -> None:
    """Raise unless the data say `count` elements, and are long enough for their lengths."""
    if len(encoded) < COUNT:
        raise DamageError(f"{len(encoded)} bytes are too few to hold a count")
    found = int.from_bytes(encoded[:COUNT], "little")
    if found != count:
        raise DamageError(f"{found} elements instead of {count}")
    if len(encoded) < COUNT * (1 + count):
        raise DamageError(
            f"{len(encoded)} bytes are too few to hold the lengths of {count} elements"
        )


def _vlen_array(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del nbytes, limit
    dtype = np.dtype(load(step.configuration)["dtype"])
    count = prod(shape)

    def decode_arrays(encoded: memoryview, target: memoryview | None) -> np.ndarray:
        del target
        check_count(encoded, count)
        out = np.empty(count, object)
        place = COUNT
        for index in range(count):
            length = int.from_bytes(encoded[place : place + COUNT], "little")
            place += COUNT
            if length > len(encoded) - place or length % dtype.itemsize:
                raise DamageError(f"element {index} has an impossible length of {length} bytes")
            out[index] = np.frombuffer(encoded[place : place + length], dtype).copy()
            place += length
        return out

    return decode_arrays


# -------------------------------------------------------------------------- objects as text


def _object_text(parse: Callable[[HostOnly], Callable[[memoryview], Any]]) -> Make:
    """json2 and msgpack2: a list of the elements (nested as the shape), the dtype and the shape."""

    def make(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
        del limit
        count, dtype = prod(shape), np.dtype(step.decoded or "V1")
        load_items = parse(step)

        def decode_text(encoded: memoryview, target: memoryview | None) -> memoryview | np.ndarray:
            del target
            items = load_items(encoded)
            own_dtype, own_shape = _check_items(items)
            # A 0-d chunk is stored as its one element.
            flat = [items[0]] if not own_shape else _flatten(items[:-2], own_shape)
            if step.decoded == "|O":
                if len(flat) != count:
                    raise DamageError(f"{len(flat)} elements instead of {count}")
                out = np.empty(count, object)
                for index, item in enumerate(flat):
                    out[index] = item
                return out
            if own_dtype.hasobject or own_dtype.itemsize > max(dtype.itemsize, 1 << 10):
                raise DamageError(f"elements of dtype {own_dtype}")
            if nbytes is not None:
                expect_nbytes(len(flat) * own_dtype.itemsize, nbytes)
            numbers = np.array(flat, own_dtype)
            return numbers.reshape(-1).view(np.uint8).data

        return decode_text

    return make


def _check_items(items: object) -> tuple[np.dtype, list[int]]:
    if not isinstance(items, list) or len(items) < 2:  # noqa: PLR2004  dtype and shape
        raise DamageError("not a list that ends with a dtype and a shape")
    name, shape = items[-2:]
    if not isinstance(name, str) or not isinstance(shape, list):
        raise DamageError(f"not a dtype and a shape: {shorten(name)}, {shorten(shape)}")
    if len(shape) > MAX_DIMENSIONS or not all(type(size) is int for size in shape):
        raise DamageError(f"{shorten(shape)} is no shape")
    return np.dtype(name), shape


def _flatten(items: list[Any], shape: list[int]) -> list[Any]:
    """The elements of lists that are nested as deep as `shape` is long."""
    for depth in range(len(shape)):
        if depth:
            if not all(isinstance(each, list) for each in items):
                raise DamageError(f"the lists do not have the shape {shorten(shape)}")
            items = [item for each in items for item in each]
        if len(items) != prod(shape[: depth + 1]):
            raise DamageError(f"the lists do not have the shape {shorten(shape)}")
    return items


def _parse_json(step: HostOnly) -> Callable[[memoryview], Any]:
    encoding = load(step.configuration).get("encoding", "utf-8")

    def parse(encoded: memoryview) -> Any:
        try:
            return json.loads(bytes(encoded).decode(encoding))
        except RecursionError as error:
            raise DamageError("lists are nested too deep") from error

    return parse


def _parse_msgpack(step: HostOnly) -> Callable[[memoryview], Any]:
    import msgpack  # noqa: PLC0415  an optional package

    raw = bool(load(step.configuration).get("raw", False))

    def parse(encoded: memoryview) -> Any:
        return msgpack.unpackb(encoded, raw=raw, strict_map_key=False)

    return parse


def _categorize(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del limit, nbytes
    settings = load(step.configuration)
    codes_dtype, dtype = np.dtype(settings["astype"]), np.dtype(settings["dtype"])
    labels = np.array(["", *settings["labels"]], dtype)
    count = prod(shape)

    def decode_categories(
        encoded: memoryview, target: memoryview | None
    ) -> memoryview | np.ndarray:
        del target
        expect_nbytes(len(encoded), count * codes_dtype.itemsize)
        codes = np.ndarray(count, codes_dtype, encoded)
        # Codes without a label are empty strings, as numcodecs has it.
        known = (codes >= 1) & (codes < len(labels))
        values = labels[np.where(known, codes, 0).astype(np.intp)]
        return values if dtype.hasobject else values.view(np.uint8).data

    return decode_categories


OBJECT_CODECS: dict[str, Make] = {
    "vlen-utf8": _vlen(VLenUTF8()),
    "vlen-bytes": _vlen(VLenBytes()),
    "numcodecs.vlen-array": _vlen_array,
    "numcodecs.json2": _object_text(_parse_json),
    "numcodecs.msgpack2": _object_text(_parse_msgpack),
    "numcodecs.categorize": _categorize,
}
"""How each codec of objects is decoded."""
