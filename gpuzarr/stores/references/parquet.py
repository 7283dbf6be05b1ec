"""References in Parquet, as kerchunk and VirtualiZarr write large sets of them.

    .zmetadata               {"metadata": {"a/.zarray": {...}, ...}, "record_size": 10000}
    a/refs.0.parq            the first 10,000 chunks of array "a", in C order of the chunk grid
    a/refs.1.parq            ...

A row has a `path` and, for a part of that file, `offset` and `size` (size 0: the whole file); or
`raw`, the bytes themselves; or neither: there is no such chunk. Files are read when one of their
chunks is asked for, and the last few of them kept.

pyarrow reads them, where it is installed (extra "references").

Source: kerchunk's "References specification", "Parquet references", and what kerchunk 0.2 writes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.errors import GpuzarrError, MetadataError, StoreError, UnsupportedError
from gpuzarr.metadata.document import as_int, as_object, as_shape, member, shorten
from gpuzarr.stores.references.document import (
    DOCUMENT_NBYTES,
    Pointer,
    children_of,
    interpret,
    parse_json,
)
from gpuzarr.stores.references.pages import check_sizes
from gpuzarr.stores.store import WHOLE, at_most, check_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from gpuzarr.stores.store import Store

FILE_NBYTES = 1 << 28
"""The largest Parquet file that is read."""
MOST_RECORDS = 1 << 21
"""The most rows that a Parquet file may have."""
MOST_KEPT = 128
"""Files that are kept in memory at a time..."""
MOST_KEPT_NBYTES = 1 << 26
"""... unless their references, of 24 bytes a row and what is inline, take more than this."""

MOST_DIGITS = 19
"""Of a number in a chunk's key."""

METADATA = ".zmetadata"
_COLUMNS = frozenset({"path", "offset", "size", "raw"})
_DOCUMENTS = frozenset({".zarray", ".zgroup", ".zattrs"})
_FILE = re.compile(r"refs\.(0|[1-9][0-9]{0,17})\.parq", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """One Parquet file."""

    path: NDArray[np.int32]
    """(n,) index into `paths`; -1: none."""
    paths: list[str]
    offset: NDArray[np.int64]
    """(n,) first byte."""
    size: NDArray[np.int64]
    """(n,) bytes; 0: the whole file."""
    raw: NDArray[np.int32]
    """(n,) index into `raws`; -1: none."""
    raws: list[bytes]
    nbytes: int
    """Memory that they take, about."""

    def __len__(self) -> int:
        return len(self.path)

    def find(self, row: int) -> bytes | Pointer | None:
        """One of them.

        Raises:
            ValueError: the row is damaged.
        """
        if self.raw[row] >= 0:
            return self.raws[int(self.raw[row])]
        if self.path[row] < 0:
            return None
        offset, size = int(self.offset[row]), int(self.size[row])
        if offset < 0 or size < 0 or (offset and not size):
            raise ValueError(f"{size} bytes at {offset}")
        return Pointer(self.paths[int(self.path[row])], offset, size or WHOLE)


class ParquetReferences:
    """The references of a Parquet folder; see `gpuzarr.stores.references.document.References`."""

    def __init__(self, store: Store, folder: str = "") -> None:
        """Read the metadata of all arrays.

        Args:
            store: where the folder is.
            folder: its key there; "" where the store is the folder.

        Raises:
            MetadataError: there is no `.zmetadata`, or it is not what it should be.
            UnsupportedError: pyarrow is not installed.
            StoreError: it cannot be read.
        """
        self._store = store
        self._folder = folder
        key = self._key(METADATA)
        blob = store.read(key, allocate=at_most(DOCUMENT_NBYTES, key))
        if blob is None:
            raise MetadataError(
                f"there is no {METADATA} here, which folders of references have", store=store.name
            )
        try:
            document = parse_json(blob.data)
            self._record_size = as_int(
                member(document, "record_size"), "record_size", 1, MOST_RECORDS
            )
            metadata = as_object(member(document, "metadata"), "metadata")
        except MetadataError as error:
            raise error.at(store=store.name, key=key) from None
        self._metadata: dict[str, Any] = metadata
        self._document: bytes | None = None
        self._sorted: tuple[str, ...] | None = None
        self._grids: dict[str, tuple[int, ...]] = {}
        self._records: dict[tuple[str, int], Records | None] = {}
        _import_pyarrow()

    def find(self, key: str) -> bytes | Pointer | None:
        """See `References.find`; keys that no array can have are none."""
        if key == METADATA:
            return self._consolidated()
        if key in self._metadata:
            return interpret(self._metadata[key], key)
        place = self._place(key)
        if place is None:
            return None
        path, number = place
        file, row = divmod(number, self._record_size)
        records = self._read(path, file)
        try:
            return None if records is None else records.find(row)
        except ValueError as error:
            raise StoreError(f"the reference of this key is damaged: {error}", key=key) from error

    def children(self, prefix: str) -> Iterator[tuple[str, bool]]:
        """See `References.children`; for the chunks of an array all its files are read."""
        keys = self._sorted
        if keys is None:
            keys = self._sorted = tuple(sorted({METADATA, *self._metadata}))
        yield from children_of(keys, prefix)
        counts = self._counts(prefix)
        if counts is None:
            return
        total = prod(counts)
        files = self._store.list(self._key(prefix))
        names = {name for name, is_folder in files if not is_folder}
        numbers = sorted(int(match[1]) for match in map(_FILE.fullmatch, names) if match)
        for number in numbers:
            records, first = self._read(prefix, number), number * self._record_size
            if records is None or first >= total:
                continue
            stored = (records.raw >= 0) | (records.path >= 0)
            for row in np.flatnonzero(stored[: total - first]).tolist():
                yield _chunk_name(first + row, counts), False

    def some_urls(self) -> Iterator[str]:
        """See `References.some_urls`; those of the first file."""
        for key in self._metadata:
            path, _, name = key.rpartition("/")
            if name != ".zarray":
                continue
            try:
                records = self._read(path, 0)
            except GpuzarrError:  # told when it is read
                continue
            if records is not None and records.paths:
                yield from records.paths
                return

    def _key(self, *parts: str) -> str:
        """The key of something in the folder."""
        return "/".join(part for part in (self._folder, *parts) if part)

    def _consolidated(self) -> bytes:
        """The documents of all nodes, as v2's consolidated metadata."""
        if self._document is None:
            documents = {
                key: value if isinstance(value, dict) else parse_json(_bytes_of(value, key))
                for key, value in self._metadata.items()
                if key.rpartition("/")[2] in _DOCUMENTS
            }
            self._document = json.dumps(
                {"zarr_consolidated_format": 1, "metadata": documents}
            ).encode()
        return self._document

    def _place(self, key: str) -> tuple[str, int] | None:
        """The array that a chunk belongs to, and the chunk's number."""
        path, _, chunk = key.rpartition("/")
        counts = self._counts(path)
        if counts is None:
            return None
        number = _chunk_number(chunk, counts)
        return None if number is None else (path, number)

    def _counts(self, path: str) -> tuple[int, ...] | None:
        """Chunks along each axis of an array; None: there is no array."""
        counts = self._grids.get(path)
        if counts is None:
            key = f"{path}/.zarray" if path else ".zarray"
            value = self._metadata.get(key)
            if value is None:
                return None
            try:
                counts = self._grids[path] = _parse_grid(as_object(value, key))
            except (MetadataError, UnsupportedError) as error:
                raise error.at(store=self._store.name, key=key) from None
        return counts

    def _read(self, path: str, number: int) -> Records | None:
        """One file, from memory or anew; None: there is none, so none of its chunks are."""
        place = (path, number)
        if place in self._records:
            return self._records[place]
        key = check_key(self._key(path, f"refs.{number}.parq"))
        blob = self._store.read(key, allocate=at_most(FILE_NBYTES, key))
        records = None
        if blob is not None:
            try:
                records = _parse_records(blob.data)
            except StoreError as error:
                raise error.at(store=self._store.name, key=key) from error
            total = prod(self._counts(path) or ())
            least = min(self._record_size, total - number * self._record_size)
            if len(records) < least:
                raise StoreError(
                    f"{len(records)} references are stored where {least} belong",
                    store=self._store.name,
                    key=key,
                )
        self._keep(place, records)
        return records

    def _keep(self, place: tuple[str, int], records: Records | None) -> None:
        """Remember a file, and forget those that have been here longest."""
        kept = dict(self._records)
        nbytes = sum(map(_nbytes, [records, *kept.values()]))
        while kept and (len(kept) >= MOST_KEPT or nbytes > MOST_KEPT_NBYTES):
            nbytes -= _nbytes(kept.pop(next(iter(kept))))
        # Replaced as a whole: other threads look into it meanwhile.
        self._records = {**kept, place: records}


def _nbytes(records: Records | None) -> int:
    return 0 if records is None else records.nbytes


def _bytes_of(value: object, key: str) -> bytes:
    """A document that is stored as text.

    Raises:
        StoreError: it is none.
    """
    found = interpret(value, key)
    if isinstance(found, Pointer):
        raise StoreError("this document is a reference, which it may not be here", key=key)
    return found


def _parse_grid(zarray: Mapping[str, Any]) -> tuple[int, ...]:
    """Chunks along each axis of an array."""
    separator = zarray.get("dimension_separator")
    if separator is not None and separator != ".":
        raise UnsupportedError(
            "references in Parquet are numbered for chunk keys with '.'; this array's have"
            f" {shorten(separator)}"
        )
    shape = as_shape(member(zarray, "shape"), "shape")
    chunks = as_shape(member(zarray, "chunks"), "chunks")
    if len(shape) != len(chunks) or not all(chunks):
        raise MetadataError(f"chunks is {list(chunks)}, which does not fit the shape {list(shape)}")
    return tuple(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))


def _chunk_number(chunk: str, counts: tuple[int, ...]) -> int | None:
    """The number of a chunk in C order; None: no key of such an array.

    >>> _chunk_number("1.2", (4, 3)), _chunk_number("0", ()), _chunk_number("1.3", (4, 3))
    (5, 0, None)
    """
    parts = chunk.split(".")
    if not counts:
        return 0 if parts == ["0"] else None
    if len(parts) != len(counts):
        return None
    number = 0
    for part, count in zip(parts, counts, strict=True):
        if not (part.isascii() and part.isdecimal() and len(part) <= MOST_DIGITS):
            return None
        if str(int(part)) != part or int(part) >= count:
            return None
        number = number * count + int(part)
    return number


def _chunk_name(number: int, counts: tuple[int, ...]) -> str:
    """The key of a chunk below its array.

    >>> _chunk_name(5, (4, 3)), _chunk_name(0, ())
    ('1.2', '0')
    """
    parts = []
    for count in reversed(counts):
        number, part = divmod(number, count)
        parts.append(str(part))
    return ".".join(reversed(parts)) or "0"


def _import_pyarrow() -> Any:
    try:
        from pyarrow import parquet  # noqa: PLC0415  an optional package, and not a light one
    except ImportError as error:
        raise UnsupportedError(
            "references in Parquet are read by pyarrow: pip install gpuzarr[references]"
        ) from error
    return parquet


def _parse_records(data: memoryview) -> Records:
    """Read one Parquet file.

    Raises:
        StoreError: it is damaged, or too large.
    """
    import pyarrow as pa  # noqa: PLC0415  it is there: the constructor has looked

    parquet = _import_pyarrow()
    try:
        check_sizes(data)
        metadata = parquet.read_metadata(pa.BufferReader(data))
        rows, schema = metadata.num_rows, metadata.schema
        if not 0 <= rows <= MOST_RECORDS:
            raise ValueError(f"it has {rows} rows; at most {MOST_RECORDS} are read")
        types = {
            schema.column(number).path: schema.column(number).physical_type
            for number in range(len(schema))
        }
        texts = [name for name in ("path", "raw") if types.get(name) == "BYTE_ARRAY"]
        # Texts stay as they are stored, each once: written out, a small file could fill memory.
        file = parquet.ParquetFile(pa.BufferReader(data), metadata=metadata, read_dictionary=texts)
        names = set(file.schema_arrow.names).intersection(_COLUMNS)
        table = file.read(sorted(names), use_threads=False)
        table.validate(full=True)  # reading alone does not look at offsets and indices
        if table.num_rows != rows:
            raise ValueError(f"it has {table.num_rows} rows and says {rows}")
        path, paths = _texts(table, "path", rows)
        raw, raws = _texts(table, "raw", rows)
        offset, size = _numbers(table, "offset", rows), _numbers(table, "size", rows)
        urls = [str(each, "utf-8") if isinstance(each, bytes) else each for each in paths]
        inline = [bytes(each, "utf-8") if isinstance(each, str) else each for each in raws]
    except (
        *(pa.ArrowException, ValueError, TypeError),
        *(LookupError, OSError, MemoryError),
    ) as error:
        raise StoreError(f"this Parquet file of references is damaged: {error}") from error
    nbytes = 24 * rows + sum(map(len, urls)) + sum(map(len, inline))
    return Records(path, urls, offset, size, raw, inline, nbytes)


def _texts(table: Any, name: str, rows: int) -> tuple[NDArray[np.int32], list[Any]]:
    """A column of texts or bytes: for each row an index, -1 for none; and what is indexed."""
    if name not in table.column_names or table.column(name).null_count == rows:
        return np.full(rows, -1, np.int32), []
    column = table.column(name)
    if not hasattr(column.type, "index_type"):
        raise TypeError(f"{name} holds {column.type}, not text")
    one = column.unify_dictionaries().combine_chunks()
    one = one.chunk(0) if hasattr(one, "num_chunks") else one
    return (
        np.asarray(one.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int32),
        one.dictionary.to_pylist(),
    )


def _numbers(table: Any, name: str, rows: int) -> NDArray[np.int64]:
    if name not in table.column_names:
        return np.zeros(rows, np.int64)
    values = table.column(name).fill_null(0).to_numpy()
    if values.dtype.kind not in "iu":
        raise ValueError(f"{name} holds {values.dtype}, not integers")
    return np.asarray(values, np.int64)
