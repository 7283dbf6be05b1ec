"""Zip archives: damaged anywhere, entries that overlap, are encrypted or lie, bombs, zip64."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from tests.hostile.inputs import Hostile, Promise, Tools, kind
from tests.hostile.payloads import flip

if TYPE_CHECKING:
    from random import Random

    from tests.hostile.bases import Base

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
FIELDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def packed(base: Base, method: int) -> bytes:
    """A base as an archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, value in base.values.items():
            info = zipfile.ZipInfo(key, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = method
            archive.writestr(info, value)
    return out.getvalue()


def pick(chance: Random, tools: Tools) -> tuple[Base, bytes, Promise]:
    """A base as an archive, and what its entries' CRCs tell."""
    bases = tools.bases_where("zips", lambda base: 2 <= len(base.values) <= 12)
    base = chance.choice(bases[:60])
    method = chance.choice(METHODS)
    data = tools.once(("zip", base.name, method), lambda: packed(base, method))
    # Of a shard that is stored as it is only parts are read, and the CRC is of all of it.
    in_parts = method == zipfile.ZIP_STORED and "sharding_indexed" in base.names
    return base, data, "any" if in_parts else "told"


def saved(tools: Tools, base: Base | None, data: bytes, what: str, promise: Promise) -> Hostile:
    """The input."""
    path = tools.folder / "archive.zip"
    path.write_bytes(data)
    name = base.name if base else "made by hand"
    return Hostile(f"{name}, zip: {what}", path, base, promise=promise, look="archive")


@kind("damaged archives", 15, "never other values; chunks whose names are damaged are missing")
def damaged_archive(chance: Random, tools: Tools) -> Hostile:
    """Cut, flipped, with fields replaced, or something in front or behind."""
    base, data, promise = pick(chance, tools)
    how = chance.randrange(6)
    if how == 0:
        size = chance.randrange(len(data))
        return saved(tools, base, data[:size], f"cut to {size} of {len(data)}", promise)
    if how == 1:
        size = chance.randrange(1, len(data))
        return saved(tools, base, data[size:], f"without the first {size}", promise)
    if how == 2:
        out = bytearray(data)
        field = chance.choice(FIELDS)
        at = chance.randrange(len(data) - 4)
        out[at : at + 4] = struct.pack("<L", field)
        return saved(tools, base, bytes(out), f"{field:#x} at {at}", promise)
    if how == 3:
        more = chance.choice([b"\0", b"PK\5\6", data, b"x" * 70_000, b"PK\5\6" + bytes(18)])
        return saved(tools, base, data + more, f"{len(more)} bytes behind", promise)
    if how == 4:
        return saved(tools, base, chance.randbytes(9) + data, "9 bytes in front", promise)
    out_bytes, what = flip(chance, data)
    return saved(tools, base, out_bytes, f"flipped {what}", promise)


@kind("fields of archives", 12, "never other values; chunks whose names are damaged are missing")
def fields(chance: Random, tools: Tools) -> Hostile:
    """A field of an entry, in its own header, in the directory, or in the record at the end."""
    base, data, promise = pick(chance, tools)
    mark, size = chance.choice([(b"PK\3\4", 30), (b"PK\1\2", 46), (b"PK\1\2", 46), (b"PK\5\6", 22)])
    found = []
    at = data.find(mark)
    while at >= 0:
        found.append(at)
        at = data.find(mark, at + 1)
    at = chance.choice(found) + chance.randrange(4, size - 1)
    width = chance.choice([1, 2, 4])
    old = int.from_bytes(data[at : at + width], "little")
    new = chance.choice([*FIELDS, old + 1, old - 1, old ^ 1, old ^ 8, old * 2]) % (1 << 8 * width)
    out = data[:at] + new.to_bytes(width, "little") + data[at + width :]
    return saved(
        tools,
        base,
        out,
        f"{new:#x} instead of {old:#x} ({width} bytes) at {at} of {mark!r}",
        promise,
    )


@dataclass
class Archive:
    """An archive made by hand: its bytes up to the directory, and the directory's records."""

    base: Base
    chunk: bytes
    """The name of the entry that lies."""
    body: bytes = b""
    parts: list[tuple[bytes, bytes, int, bytes]] = field(default_factory=list)
    """(record up to the sizes of names, name, offset, extra field)"""

    @property
    def data(self) -> bytes:
        """The bytes that the chunk should have."""
        return self.base.values.get(self.chunk.decode(), b"data") or b"data"

    def add(
        self, name: bytes, stored: bytes, method: int, size: int, crc: int, flags: int = 0
    ) -> None:
        """An entry that claims what is given."""
        claims = struct.pack(
            "<5H3L2H", 20, flags, method, 0, 33, crc, len(stored), size, len(name), 0
        )
        record = b"PK\1\2" + struct.pack("<H", 20) + claims
        self.parts.append((record, name, len(self.body), b""))
        self.body += b"PK\3\4" + claims + name + stored

    def whole(self) -> bytes:
        """The archive."""
        directory = b"".join(
            record + struct.pack("<3H2L", 0, 0, 0, 0, offset & 0xFFFFFFFF) + name + extra
            for record, name, offset, extra in self.parts
        )
        count = len(self.parts)
        end = (b"PK\5\6", 0, 0, count, count, len(directory), len(self.body), 0)
        return self.body + directory + struct.pack("<4s4H2LH", *end)


def deflated(data: bytes) -> bytes:
    """A deflate stream."""
    stream = zlib.compressobj(9, wbits=-15)
    return stream.compress(data) + stream.flush()


@kind("archives that lie", 6, "refused, in little memory")
def lying(chance: Random, tools: Tools) -> Hostile:
    """Overlapping, encrypted, of lying sizes, of zip64's numbers, or bombs."""
    base, _, _ = pick(chance, tools)
    how = chance.choice(list(LIES))
    chunk = chance.choice(sorted(base.objects)).encode() if base.objects else b"c/0"
    archive = Archive(base, chunk)
    document = base.values[base.document_key]
    archive.add(base.document_key.encode(), document, 0, len(document), zlib.crc32(document))
    LIES[how](chance, archive)
    return saved(tools, base, archive.whole(), how, "any")


def _bomb(chance: Random, archive: Archive) -> None:
    size = chance.choice([16 << 20, 1 << 30, len(archive.data)])
    key = archive.base.document_key.encode()
    target = chance.choice([key, archive.chunk])
    archive.parts = [part for part in archive.parts if part[1] != target]
    archive.add(target, deflated_zeros(), 8, size, 0)


@cache
def deflated_zeros() -> bytes:
    """16 MiB of zeros."""
    return deflated(bytes(16 << 20))


def _overlap(chance: Random, archive: Archive) -> None:
    data, begin = archive.data, len(archive.body)
    archive.add(archive.chunk, data, 0, len(data), zlib.crc32(data))
    body = archive.body
    archive.add(b"c/x", data, 0, len(data), zlib.crc32(data))
    record, name, _, extra = archive.parts.pop()
    archive.parts.append((record, name, begin + chance.choice([0, 4, 30]), extra))
    archive.body = body


def _encrypted(chance: Random, archive: Archive) -> None:
    data, flags = archive.data, chance.choice([1, 0x41, 0x2000])
    archive.add(archive.chunk, data, 0, len(data), zlib.crc32(data), flags)


def _size(chance: Random, archive: Archive) -> None:
    data = archive.data
    size = chance.choice([0, 1, len(data) + 1, 1 << 31, 0xFFFFFFFE])
    archive.add(archive.chunk, deflated(data), 8, size, zlib.crc32(data))


def _zip64(chance: Random, archive: Archive) -> None:
    data, begin = archive.data, len(archive.body)
    number = chance.choice([0, len(data), 1 << 32, 1 << 62, (1 << 64) - 1])
    numbers = (number, chance.choice([number, len(data)]), chance.choice([begin, 1 << 40]))
    extra = struct.pack("<2H3Q", 1, 24, *numbers)[: chance.choice([28, 28, 20, 12, 4, 3])]
    name, absent = archive.chunk, 0xFFFFFFFF
    claims = (45, 45, 0, 0, 0, 33, zlib.crc32(data), absent, absent, len(name), len(extra))
    record = b"PK\1\2" + struct.pack("<6H3L2H", *claims)
    archive.add(name, data, 0, len(data), zlib.crc32(data))
    archive.parts[-1] = (record, name, chance.choice([begin, absent]), extra)


def _twice(chance: Random, archive: Archive) -> None:
    data = archive.data
    other = bytes(len(data)) if chance.random() < 0.5 else data[:-1]
    for content in (data, other):
        archive.add(archive.chunk, content, 0, len(content), zlib.crc32(content))


def _names(chance: Random, archive: Archive) -> None:
    chunk, data = archive.chunk, archive.data
    bad = (b"../" + chunk, b"/" + chunk, b"c\\0", b"\xff\xfe", b"", b"a\0b", b"c/0/", b"C:/x")
    archive.add(chance.choice(bad), data, 0, len(data), zlib.crc32(data))


def _method(chance: Random, archive: Archive) -> None:
    data = archive.data
    method = chance.choice([1, 6, 9, 12, 14, 93, 95, 97, 99, 0xFFFF])
    stored = chance.choice([data, deflated(data)])
    archive.add(archive.chunk, stored, method, len(data), zlib.crc32(data))


LIES = {
    "bomb": _bomb,
    "overlap": _overlap,
    "encrypted": _encrypted,
    "size": _size,
    "zip64": _zip64,
    "twice": _twice,
    "names": _names,
    "method": _method,
}
