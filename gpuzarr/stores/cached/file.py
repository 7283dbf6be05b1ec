r"""One kept range as a file: what it is, checksums, and the bytes.

    b"gpuzarr\x01"                     the format and its version
    <I crc32c of all up to the bytes, <I length of the document
    the document                      JSON: store, key, start, stop, size, validator
    <I crc32c of each block           of BLOCK_NBYTES, the last one of what is left
    the bytes

Files are written elsewhere and renamed, so a reader sees all of one or none. What a crash of the
machine may leave instead (a name without its bytes) does not match its checksums or its size. Only
the blocks that a read needs are read and checked.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import google_crc32c
import numpy as np

from gpuzarr.stores.cached.ranges import Span
from gpuzarr.stores.files import read_at

if TYPE_CHECKING:
    from collections.abc import Hashable

BLOCK_NBYTES = 1 << 16
MAGIC = b"gpuzarr\x01"
_PREFIX = struct.Struct("<8sII")
_PREFIX_NBYTES = _PREFIX.size
_FIRST_READ = 1 << 12
_LONGEST_HEAD = 1 << 26
_TUPLE = "tuple"


class DamagedFileError(Exception):
    """A file that is not what it should be; it is removed, and its range read again."""


class Kept(NamedTuple):
    """What a file holds."""

    store: str
    """The name that tells the store apart."""
    key: str
    span: Span
    size: int | None
    """Of the whole object, where it is known."""
    validator: Hashable


def validator_text(validator: Hashable) -> str | None:
    """A validator as text; None where it is of a kind that means something in this process only.

    >>> validator_text((17, "x"))
    '{"tuple": [17, "x"]}'
    """
    try:
        return json.dumps(_plain(validator), sort_keys=True)
    except TypeError:
        return None


def encode_head(kept: Kept, data: memoryview) -> bytes:
    """All of a file but the bytes themselves."""
    document = json.dumps(
        {
            "store": kept.store,
            "key": kept.key,
            "start": kept.span.start,
            "stop": kept.span.stop,
            "size": kept.size,
            "validator": _plain(kept.validator),
        }
    ).encode()
    blocks = (data[at : at + BLOCK_NBYTES] for at in range(0, len(data), BLOCK_NBYTES))
    table = np.array([_crc32c(block) for block in blocks], "<u4").tobytes()
    tail = struct.pack("<I", len(document)) + document + table
    return MAGIC + struct.pack("<I", _crc32c(memoryview(tail))) + tail


def read_range(
    descriptor: int, file_nbytes: int, expected: tuple[str, str, Span, int | None], wanted: Span
) -> tuple[memoryview, Hashable]:
    """Read a part of a kept range, and check it.

    Args:
        descriptor: the open file.
        file_nbytes: its size.
        expected: the store, the key, the place and the object's size of the range that it must
            hold.
        wanted: a place inside.

    Returns:
        The bytes, and the object's validator.

    Raises:
        DamagedFileError: they cannot be believed.
        OSError: the file cannot be read.
    """
    kept, table, begin = _read_head(descriptor, file_nbytes)
    if kept[:4] != expected:
        raise DamagedFileError("it holds another range")
    length = kept.span.stop - kept.span.start
    if begin + length != file_nbytes:
        raise DamagedFileError(f"{file_nbytes} bytes where {begin + length} are expected")
    first = (wanted.start - kept.span.start) // BLOCK_NBYTES * BLOCK_NBYTES
    last = min(-(-(wanted.stop - kept.span.start) // BLOCK_NBYTES) * BLOCK_NBYTES, length)
    memory = memoryview(bytearray(max(last - first, 0)))
    if read_at(descriptor, memory, begin + first) != len(memory):
        raise DamagedFileError("it became shorter")
    for at in range(0, len(memory), BLOCK_NBYTES):
        if _crc32c(memory[at : at + BLOCK_NBYTES]) != table[(first + at) // BLOCK_NBYTES]:
            raise DamagedFileError("a checksum does not match")
    start = wanted.start - kept.span.start - first
    return memory[start : start + wanted.stop - wanted.start].toreadonly(), kept.validator


def _read_head(descriptor: int, file_nbytes: int) -> tuple[Kept, list[int], int]:
    """What a file says that it holds, the checksums of its blocks, and where the bytes begin."""
    head = _read(descriptor, min(_FIRST_READ, file_nbytes))
    if len(head) < _PREFIX_NBYTES:
        raise DamagedFileError("it is too short")
    magic, checksum, document_nbytes = _PREFIX.unpack_from(head)
    table_at = _PREFIX_NBYTES + document_nbytes
    if magic != MAGIC or table_at > min(file_nbytes, _LONGEST_HEAD):
        raise DamagedFileError("it does not begin as such files do")
    # All blocks and their checksums are what is left.
    nblocks = -(-(file_nbytes - table_at) // (BLOCK_NBYTES + 4))
    begin = table_at + 4 * nblocks
    if begin > len(head):
        head = _read(descriptor, min(begin, _LONGEST_HEAD))
    if len(head) < begin or _crc32c(memoryview(head)[12:begin]) != checksum:
        raise DamagedFileError("its checksum does not match")
    try:
        kept = _decode_document(head[_PREFIX_NBYTES:table_at])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedFileError("its document is none of ours") from error
    table: list[int] = np.frombuffer(head, "<u4", nblocks, table_at).tolist()
    return kept, table, begin


def _decode_document(text: bytes) -> Kept:
    document: dict[str, Any] = json.loads(text)
    start, stop, size = document["start"], document["stop"], document["size"]
    if not type(start) is type(stop) is int or type(size) not in {int, type(None)}:
        raise TypeError("a place that is no integer")
    validator = _from_plain(document["validator"])
    return Kept(document["store"], document["key"], Span(start, stop), size, validator)


def _read(descriptor: int, nbytes: int) -> bytes:
    memory = memoryview(bytearray(nbytes))
    return bytes(memory[: read_at(descriptor, memory, 0)])


def _plain(validator: Hashable) -> object:
    """A validator in what JSON has.

    Raises:
        TypeError: it is not made of numbers, text and tuples.
    """
    if validator is None or type(validator) in {str, int, float, bool}:
        return validator
    if type(validator) is bytes:
        return {"bytes": validator.hex()}
    if type(validator) is tuple:
        return {_TUPLE: [_plain(part) for part in validator]}
    raise TypeError(f"a {type(validator).__name__} means nothing to another process")


def _from_plain(value: Any) -> Hashable:
    """The inverse of `_plain`."""
    if isinstance(value, list):
        raise TypeError("a list is no validator")
    if isinstance(value, dict):
        if _TUPLE in value:
            return tuple(_from_plain(part) for part in value[_TUPLE])
        return bytes.fromhex(value["bytes"])
    return value  # type: ignore[no-any-return]


def _crc32c(data: memoryview) -> int:
    # google_crc32c takes no memoryview, but arrays on one.
    return int(google_crc32c.value(np.frombuffer(data, np.uint8))) if len(data) else 0
