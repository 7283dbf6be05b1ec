"""Codecs that only the host decodes: number compressors, and what numcodecs or plug-ins know."""

from __future__ import annotations

import base64
import binascii
from importlib.util import find_spec
from math import prod
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
from numcodecs.jenkins import jenkins_lookup3

from gpuzarr.codecs.plugins import PREFIX, DecodingCodec, find_codec
from gpuzarr.engines.cpu import zfp_streams
from gpuzarr.engines.cpu.configuration import load
from gpuzarr.engines.cpu.object_codecs import OBJECT_CODECS
from gpuzarr.engines.cpu.prepared import Limit, Prepared, new_bytes
from gpuzarr.engines.step_error import DamageError, expect_nbytes
from gpuzarr.program import resolve_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cpu.prepared import Run
    from gpuzarr.program import HostOnly

    Make = Callable[[HostOnly, int | None, Limit, tuple[int, ...]], Run]

CHECKSUM_NBYTES = 4


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
    if step.codec_id in _TABLE or step.codec_id in _CHAINS:
        return ()
    try:
        prepare("", step, None, Limit(0), ())
    except Exception as error:  # noqa: BLE001  whatever another package's codec raises
        return (f"codec {step.codec_id!r} cannot be made: {error}",)
    return ()


_MODULES = {
    "numcodecs.grib": "eccodes",
    "numcodecs.msgpack2": "msgpack",
    "numcodecs.pcodec": "pcodec",
    "numcodecs.zfpy": "zfpy",
    "zfp": "zfpy",
}
"""Packages that some codecs need, which are not among gpuzarr's dependencies."""


_CHAINS = ("sharding_indexed", "n5_default")
"""Codecs that hold chains of their own; the decoder makes them."""


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
        if len(encoded) < CHECKSUM_NBYTES:
            raise DamageError(f"{len(encoded)} bytes are too few to hold a checksum")
        data, stored = (
            encoded[:-CHECKSUM_NBYTES],
            int.from_bytes(encoded[-CHECKSUM_NBYTES:], "little"),
        )
        found = jenkins_lookup3(np.frombuffer(data, np.uint8), start)
        if found != stored:
            raise DamageError(
                f"the stored checksum is {stored:#010x}, but the data give {found:#010x}",
                checksum=True,
            )
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
            raise DamageError(f"{progress.n_processed} numbers instead of {len(numbers)}")
        if native != dtype:
            numbers = numbers.astype(dtype)
        return numbers.view(np.uint8).data

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
    plugin = find_codec(step.codec_id)
    if not isinstance(plugin, DecodingCodec):
        raise TypeError(f"no installed package decodes {step.codec_id!r}")
    configuration = load(step.configuration)

    def decode_plugin(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        decoded = _guarded(plugin.decode, encoded, configuration, nbytes)
        return _as_bytes(decoded, nbytes, limit.of(encoded))

    return decode_plugin


def _guarded(decode: Callable[..., Any], *arguments: object) -> Any:
    """Call a foreign codec, whose sizes nobody checks beforehand."""
    try:
        return decode(*arguments)
    except MemoryError as error:
        raise DamageError("the codec asked for more memory than there is") from error


def _as_bytes(decoded: Any, nbytes: int | None, limit: int) -> memoryview:
    """What a foreign codec gave, as flat bytes in memory order."""
    array = decoded if isinstance(decoded, np.ndarray) else np.frombuffer(decoded, np.uint8)
    if array.dtype.hasobject:
        raise DamageError("the codec gave objects, not bytes")
    if nbytes is not None:
        expect_nbytes(array.nbytes, nbytes)
    elif array.nbytes > limit:
        raise DamageError(f"{array.nbytes} bytes are more than these chunks can have")
    flat = array.reshape(-1, order="A")
    return flat.view(np.uint8).data if flat.size else new_bytes(0)


_TABLE: dict[str, Make] = {
    **OBJECT_CODECS,
    "numcodecs.base64": _base64,
    "numcodecs.jenkins_lookup3": _jenkins,
    "numcodecs.pcodec": _pcodec,
    "numcodecs.zfpy": _zfpy,
    "zfp": _zfp,
}
"""How each known host codec is decoded."""
