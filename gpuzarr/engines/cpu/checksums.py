"""Verifying checksums: the bytes without it, or an error."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, assert_never

import google_crc32c
import numpy as np
from numcodecs.fletcher32 import Fletcher32

from gpuzarr.engines.step_error import DamageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cpu.prepared import Run
    from gpuzarr.program import VerifyChecksum

SIZE = 4
_fletcher32 = Fletcher32()


def prepare(step: VerifyChecksum) -> Run:
    """The function of a checksum step."""
    match step.algorithm:
        case "crc32c":
            return _verify(step.at, _crc32c)
        case "crc32":
            return _verify(step.at, zlib.crc32)
        case "adler32":
            return _verify(step.at, zlib.adler32)
        case "fletcher32":
            return verify_fletcher32
        case _:
            assert_never(step.algorithm)


def _crc32c(data: memoryview) -> int:
    # google_crc32c takes no memoryview, but arrays on one.
    return google_crc32c.value(np.frombuffer(data, np.uint8)) if len(data) else 0


def _verify(at: str, compute: Callable[[memoryview], int]) -> Run:
    def verify(encoded: memoryview, target: memoryview | None) -> memoryview:
        del target
        if len(encoded) < SIZE:
            raise DamageError(f"{len(encoded)} bytes are too few to hold a checksum")
        if at == "end":
            data, stored = encoded[:-SIZE], encoded[-SIZE:]
        else:
            data, stored = encoded[SIZE:], encoded[:SIZE]
        found, expected = compute(data), int.from_bytes(stored, "little")
        if found != expected:
            raise DamageError(
                f"the stored checksum is {expected:#010x}, but the data give {found:#010x}",
                checksum=True,
            )
        return data

    return verify


def verify_fletcher32(encoded: memoryview, target: memoryview | None) -> memoryview:
    """HDF5's Fletcher-32, by numcodecs, which does not check the length before it reads."""
    del target
    if len(encoded) < SIZE:
        raise DamageError(f"{len(encoded)} bytes are too few to hold a checksum")
    if len(encoded) > SIZE:
        try:
            _fletcher32.decode(encoded)
        except RuntimeError as error:
            raise DamageError(str(error), checksum=True) from error
    elif any(encoded):
        raise DamageError("the checksum of nothing is not zero", checksum=True)
    return encoded[:-SIZE]
