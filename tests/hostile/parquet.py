"""References in Parquet: damaged bytes, other columns, rows that lie, bombs."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

from tests.hostile.documents import alter
from tests.hostile.inputs import Hostile, Tools, kind
from tests.hostile.payloads import flip
from tests.hostile.places import write
from tests.hostile.references import FILE, HUGE, NO_FILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.hostile.bases import Base

MIB = 1 << 20
FILES = "refs.0.parq"
RECORDS = 50
"""Rows of a file."""
ODD_COLUMNS: tuple[Any, ...] = (
    pa.array([1.5] * RECORDS),
    pa.array([True] * RECORDS),
    pa.array([["a"]] * RECORDS),
    pa.array([{"a": 1}] * RECORDS),
    pa.array([None] * RECORDS),
    pa.array([2**64 - 1] * RECORDS, pa.uint64()),
    pa.array([b"\xff\xfe"] * RECORDS),
    pa.array(["data.bin"] * RECORDS).dictionary_encode(),
    pa.array(range(RECORDS), pa.timestamp("ns")),
    pa.array([b"abc"] * RECORDS, pa.binary(3)),
)
PARTS = 12
"""Groups of rows of a bomb, each of 8 MiB."""
BOMBS: dict[str, Callable[[int], list[Any]]] = {
    "one text": lambda _: ["x" * (8 * MIB)],
    "texts": lambda part: [f"{part}.{number}" + "x" * MIB for number in range(8)],
    "bytes": lambda part: [f"{part}".encode() + bytes(8 * MIB)],
}


def rows(base: Base) -> tuple[dict[str, list[Any]], bytes]:
    """The references of a base's chunks as columns, and the file that they point into."""
    shape, chunks = base.document["shape"], base.document["chunks"]
    counts = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
    none: list[Any] = [None]
    columns = {"path": none * RECORDS, "offset": [0] * RECORDS, "size": [0] * RECORDS}
    columns |= {"raw": none * RECORDS}
    body = b"HDF"
    for key, coords in base.objects.items():
        row = 0
        for place, count in zip(coords, counts, strict=True):
            row = row * count + place
        value = base.values[key]
        if row % 3 == 0:
            columns["raw"][row] = value
        else:
            columns["path"][row] = FILE
            columns["offset"][row], columns["size"][row] = len(body), len(value)
            body += value
    return columns, body


def table(columns: dict[str, list[Any]]) -> dict[str, Any]:
    """The columns as Arrow has them."""
    types = {"path": pa.string(), "offset": pa.int64(), "size": pa.int64(), "raw": pa.binary()}
    return {name: pa.array(column, types[name]) for name, column in columns.items()}


def file_of(columns: dict[str, Any], **choices: Any) -> bytes:
    """A Parquet file."""
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out, **choices)
    return out.getvalue()


def fits(base: Base) -> bool:
    """Whether an array can have references in Parquet."""
    document = base.document
    if document["zarr_format"] != 2 or document.get("dimension_separator", ".") != ".":
        return False
    shape, chunks = document["shape"], document["chunks"]
    count = 1
    for size, chunk in zip(shape, chunks, strict=True):
        count *= -(-size // chunk)
    return bool(shape) and 0 < count <= RECORDS and any(map(base.values.get, base.objects))


def compressed(chance: Random, base: Base, tools: Tools) -> bytes:
    """An undamaged file, written in one of several ways."""
    compression = chance.choice(["none", "zstd", "snappy", "gzip"])
    version = chance.choice(["1.0", "2.0"])

    def make() -> bytes:
        return file_of(table(rows(base)[0]), compression=compression, data_page_version=version)

    made: bytes = tools.once(("parquet", base.name, compression, version), make)
    return made


def bomb(chance: Random, tools: Tools) -> tuple[bytes, str]:
    """A file of some KiB that would become hundreds of MiB."""
    name, dictionary = chance.choice(list(BOMBS)), chance.random() < 0.5

    def make() -> bytes:
        column, kind = ("raw", pa.binary()) if name == "bytes" else ("path", pa.string())
        schema, out = pa.schema([(column, kind)]), io.BytesIO()
        with parquet.ParquetWriter(
            out, schema, compression="zstd", use_dictionary=dictionary
        ) as writer:
            for part in range(PARTS):
                writer.write_table(pa.table({column: BOMBS[name](part)}, schema))
        return out.getvalue()

    return tools.once(("parquet bomb", name, dictionary), make), f"a bomb of {name}"


def damaged(chance: Random, base: Base, tools: Tools) -> tuple[bytes, str]:
    """A file of references, damaged, and what was done."""
    data = compressed(chance, base, tools)
    how = chance.randrange(6)
    if how == 0:
        size = chance.randrange(len(data))
        return data[:size], f"cut to {size} of {len(data)}"
    if how == 1:
        return flip(chance, data)
    if how == 2:  # the footer, and what stands before it
        begin = chance.choice([0, max(0, len(data) - 1000)])
        head, (tail, what) = data[:begin], flip(chance, data[begin:])
        return head + tail, f"behind {begin}: flipped {what}"
    columns, _ = rows(base)
    if how == 3:
        name, row = chance.choice(["offset", "size"]), chance.randrange(RECORDS)
        number = chance.choice([each for each in HUGE if each < 1 << 63])
        columns[name][row] = number
        return file_of(table(columns)), f"{name} {number} in row {row}"
    if how == 4:
        paths = [path for path in NO_FILES if "\ud800" not in path]
        columns["path"] = [chance.choice(paths)] * RECORDS
        return file_of(table(columns)), f"path {columns['path'][0][:40]!r}"
    arrays, name = table(columns), chance.choice(list(columns))
    odd = chance.randrange(-1, len(ODD_COLUMNS))
    if odd < 0:
        del arrays[name]
    else:
        arrays[name] = ODD_COLUMNS[odd]
    return file_of(arrays), f"{name} {'is not there' if odd < 0 else ODD_COLUMNS[odd].type}"


@kind("references in Parquet", 6, "as references; refused, in little memory")
def references(chance: Random, tools: Tools) -> Hostile:
    """The file of references, or the metadata beside it."""
    base = chance.choice(tools.bases_where("Parquet", fits))
    metadata: Any = {"metadata": {".zarray": base.document}, "record_size": RECORDS}
    how = chance.random()
    if how < 0.15:
        data = compressed(chance, base, tools)
        metadata, what = alter(chance, metadata, chance.choice([1, 1, 2]))
        what = f"metadata: {what}"
    elif how < 0.2:
        data, what = bomb(chance, tools)
    else:
        data, what = damaged(chance, base, tools)
    root = tools.folder / "references.parquet"
    write(root, {".zmetadata": json.dumps(metadata).encode(), FILES: data})
    write(tools.folder, {FILE: rows(base)[1]})
    return Hostile(f"{base.name}, Parquet: {what}", root, base)
