"""Codecs that only the host decodes: objects, number compressors, whole shards, and everything that
numcodecs or a plug-in knows.

None of them runs code that the data bring along, and each holds counts and sizes in the data against
what the metadata promise before it makes room for them.
"""

from __future__ import annotations

import base64
import binascii
import json
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
from numcodecs.jenkins import jenkins_lookup3
from numcodecs.vlen import VLenBytes, VLenUTF8

from gpuzarr.codecs.plugins import PREFIX, DecodingCodec, find_plugin
from gpuzarr.engines.cpu import zfp_streams
from gpuzarr.engines.cpu.configuration import load
from gpuzarr.engines.cpu.prepared import Limit, Prepared, new_bytes
from gpuzarr.engines.cpu.step_error import DamageError, expect_nbytes
from gpuzarr.program import resolve_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cpu.prepared import Run
    from gpuzarr.program import HostOnly

    Make = Callable[[HostOnly, int | None, Limit, tuple[int, ...]], Run]

COUNT = 4
"""Bytes of the count in front of variable-length elements, and of each length."""


def prepare(
    name: str, step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]
) -> Prepared:
    """The function of a host codec's step."""
    make = _TABLE.get(step.codec_id)
    if make is None:
        make = _numcodecs if step.codec_id.startswith(PREFIX) else _plugin
    return Prepared(name, make(step, nbytes, limit, shape), nbytes, writes=False)


def unsupported(step: HostOnly) -> tuple[str, ...]:
    """Why this machine cannot run a host codec."""
    module = _MODULES.get(step.codec_id)
    if module is not None and find_spec(module) is None:
        return (f"codec {step.codec_id!r} needs the package {module}: pip install {module}",)
    if step.codec_id in _TABLE:
        return ()
    try:
        prepare("", step, None, Limit(0), ())
    except Exception as error:  # noqa: BLE001  whatever another package's codec raises
        return (f"codec {step.codec_id!r} cannot be made: {error}",)
    return ()


_MODULES = {
    "numcodecs.msgpack2": "msgpack",
    "numcodecs.pcodec": "pcodec",
    "numcodecs.zfpy": "zfpy",
    "zfp": "zfpy",
}
"""Packages that some codecs need, which are not among gpuzarr's dependencies."""


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
        message = f"{len(encoded)} bytes are too few to hold a count"
        raise DamageError(message)
    found = int.from_bytes(encoded[:COUNT], "little")
    if found != count:
        message = f"{found} elements instead of {count}"
        raise DamageError(message)
    if len(encoded) < COUNT * (1 + count):
        message = f"{len(encoded)} bytes are too few to hold the lengths of {count} elements"
        raise DamageError(message)


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
                message = f"element {index} has an impossible length of {length} bytes"
                raise DamageError(message)
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

        def decode_text(
            encoded: memoryview, target: memoryview | None
        ) -> memoryview | np.ndarray:
            del target
            items = load_items(encoded)
            own_dtype, own_shape = _check_items(items)
            # A 0-d chunk is stored as its one element.
            flat = [items[0]] if not own_shape else _flatten(items[:-2], own_shape)
            if step.decoded == "|O":
                if len(flat) != count:
                    message = f"{len(flat)} elements instead of {count}"
                    raise DamageError(message)
                out = np.empty(count, object)
                for index, item in enumerate(flat):
                    out[index] = item
                return out
            if own_dtype.hasobject or own_dtype.itemsize > max(dtype.itemsize, 1 << 10):
                message = f"elements of dtype {own_dtype}"
                raise DamageError(message)
            if nbytes is not None:
                expect_nbytes(len(flat) * own_dtype.itemsize, nbytes)
            numbers = np.array(flat, own_dtype)
            return memoryview(numbers.reshape(-1).view(np.uint8))

        return decode_text

    return make


def _check_items(items: object) -> tuple[np.dtype, list[int]]:
    if not isinstance(items, list) or len(items) < 2:  # noqa: PLR2004  dtype and shape
        message = "not a list that ends with a dtype and a shape"
        raise DamageError(message)
    name, shape = items[-2:]
    if not isinstance(name, str) or not isinstance(shape, list):
        message = f"not a dtype and a shape: {name!r}, {shape!r}"
        raise DamageError(message)
    return np.dtype(name), shape


def _flatten(items: list[Any], shape: list[int]) -> list[Any]:
    """The elements of lists that are nested as deep as `shape` is long."""
    for depth, size in enumerate(shape):
        if depth:
            items = [item for each in items for item in each]
        if len(items) != prod(shape[: depth + 1]) or not isinstance(size, int):
            message = f"the lists do not have the shape {shape}"
            raise DamageError(message)
    return items


def _parse_json(step: HostOnly) -> Callable[[memoryview], Any]:
    encoding = load(step.configuration).get("encoding", "utf-8")

    def parse(encoded: memoryview) -> Any:  # noqa: ANN401  JSON
        try:
            return json.loads(bytes(encoded).decode(encoding))
        except RecursionError as error:
            message = "lists are nested too deep"
            raise DamageError(message) from error

    return parse


def _parse_msgpack(step: HostOnly) -> Callable[[memoryview], Any]:
    import msgpack  # noqa: PLC0415  an optional package

    raw = bool(load(step.configuration).get("raw", False))

    def parse(encoded: memoryview) -> Any:  # noqa: ANN401  any object
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
        return values if dtype.hasobject else memoryview(values.view(np.uint8))

    return decode_categories


# ------------------------------------------------------------------------- bytes and numbers


def _base64(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del step, nbytes, limit, shape

    def decode_base64(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        try:
            return memoryview(base64.b64decode(encoded, validate=True))
        except binascii.Error as error:
            raise DamageError(str(error)) from error

    return decode_base64


def _jenkins(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del nbytes, limit, shape
    start = load(step.configuration)["initval"]

    def verify_jenkins(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        if len(encoded) < COUNT:
            message = f"{len(encoded)} bytes are too few to hold a checksum"
            raise DamageError(message)
        data, stored = encoded[:-COUNT], int.from_bytes(encoded[-COUNT:], "little")
        found = jenkins_lookup3(np.frombuffer(data, np.uint8), start)
        if found != stored:
            message = f"the stored checksum is {stored:#010x}, but the data give {found:#010x}"
            raise DamageError(message, checksum=True)
        return data

    return verify_jenkins


def _pcodec(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    from pcodec import standalone  # noqa: PLC0415  an optional package

    del limit
    dtype = resolve_dtype(step.decoded or "")
    native = dtype.newbyteorder("=")
    size = prod(shape) * dtype.itemsize if nbytes is None else nbytes

    def decode_pcodec(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        numbers = np.empty(size // dtype.itemsize, native)
        try:
            progress = standalone.simple_decompress_into(bytes(encoded), numbers)
        except BaseException as error:
            # Its Rust code may panic on damaged data, which is no Exception.
            if type(error).__name__ == "PanicException":
                raise DamageError(str(error)) from error
            raise
        if progress.n_processed != len(numbers) or not progress.finished:
            message = f"{progress.n_processed} numbers instead of {len(numbers)}"
            raise DamageError(message)
        if native != dtype:
            numbers = numbers.astype(dtype)
        return memoryview(numbers.view(np.uint8))

    return decode_pcodec


def _zfpy(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del limit
    dtype = resolve_dtype(step.decoded or "")
    size = prod(shape) * dtype.itemsize if nbytes is None else nbytes
    return zfp_streams.with_header(dtype, size)


def _zfp(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del nbytes, limit, shape
    return zfp_streams.without_header(resolve_dtype(step.decoded or ""), load(step.configuration))


# --------------------------------------------------------------------------- other packages


def _numcodecs(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del shape
    configuration = {**load(step.configuration), "id": step.codec_id.removeprefix(PREFIX)}
    codec = numcodecs.get_codec(configuration)

    def decode_numcodecs(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        return _as_bytes(_guarded(codec.decode, encoded), nbytes, limit.of(encoded))

    return decode_numcodecs


def _plugin(step: HostOnly, nbytes: int | None, limit: Limit, shape: tuple[int, ...]) -> Run:
    del shape
    plugin = find_plugin(step.codec_id)
    if not isinstance(plugin, DecodingCodec):
        message = f"no installed package decodes {step.codec_id!r}"
        raise TypeError(message)
    configuration = load(step.configuration)

    def decode_plugin(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        decoded = _guarded(plugin.decode, encoded, configuration, nbytes)
        return _as_bytes(decoded, nbytes, limit.of(encoded))

    return decode_plugin


def _guarded(decode: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401  a foreign codec
    """Call a foreign codec, whose sizes nobody checks beforehand."""
    try:
        return decode(*arguments)
    except MemoryError as error:
        message = "the codec asked for more memory than there is"
        raise DamageError(message) from error


def _as_bytes(decoded: object, nbytes: int | None, limit: int) -> memoryview:
    """What a foreign codec gave, as flat bytes in memory order."""
    array = np.asarray(decoded) if isinstance(decoded, np.ndarray) else np.frombuffer(
        decoded, np.uint8  # type: ignore[call-overload]  a buffer, or this raises
    )
    if array.dtype.hasobject:
        message = "the codec gave objects, not bytes"
        raise DamageError(message)
    if nbytes is not None:
        expect_nbytes(array.nbytes, nbytes)
    elif array.nbytes > limit:
        message = f"{array.nbytes} bytes are more than these chunks can have"
        raise DamageError(message)
    flat = array.reshape(-1, order="A")
    return memoryview(flat.view(np.uint8)) if flat.size else new_bytes(0)


_TABLE: dict[str, Make] = {
    "vlen-utf8": _vlen(VLenUTF8()),
    "vlen-bytes": _vlen(VLenBytes()),
    "numcodecs.vlen-array": _vlen_array,
    "numcodecs.json2": _object_text(_parse_json),
    "numcodecs.msgpack2": _object_text(_parse_msgpack),
    "numcodecs.categorize": _categorize,
    "numcodecs.base64": _base64,
    "numcodecs.jenkins_lookup3": _jenkins,
    "numcodecs.pcodec": _pcodec,
    "numcodecs.zfpy": _zfpy,
    "zfp": _zfp,
}
"""How each known host codec is decoded."""
