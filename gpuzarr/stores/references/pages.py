"""How much a Parquet file becomes when it is decoded, by its footer and the headers of its pages.

pyarrow takes as much memory as a page's header says before it decompresses it, whatever the footer
says of the sizes of columns. So the headers are looked at first: a page never becomes more than its
own says. Only one encoding can become more than its page has, and is refused: strings that share
their beginnings with others.

They are read here, and not by pyarrow, some of whose functions for it end the process where a
column's statistics are damaged.

Source: Apache Parquet's `parquet.thrift`, and Thrift's "compact protocol".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAUSIBLE_NBYTES = 1 << 25
"""A file may become so many bytes when it is decompressed, or..."""
PLAUSIBLE_RATIO = 32
"""... so many times its own; more is a bomb."""
FOOTER_NBYTES = 1 << 20
"""Of a footer; those of references have a few KiB."""

MAGIC = b"PAR1"
_TAIL_NBYTES = 8
"""Four of the footer's length, and the magic."""

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = frozenset({4, 5, 6})
_MOST_DEPTH = 16
_MOST_SHIFT = 63

# Numbers of fields.
_FILE_ROWS, _FILE_GROUPS = 3, 4
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_COLUMN_METADATA = 3
_COMPRESSED_NBYTES, _PAGES_AT, _DICTIONARY_AT = 7, 9, 11
_PAGE_NBYTES, _PAGE_STORED_NBYTES = 2, 3
_PAGE_KINDS = {5: 2, 7: 2, 8: 4}
"""What describes a page of a kind, and the encoding in it."""
_SHARED_BEGINNINGS = 7
"""The encoding DELTA_BYTE_ARRAY."""

Fields = dict[int, Any]


def check_sizes(data: memoryview) -> None:
    """See whether a file says how large it becomes, and does not become too large.

    Raises:
        ValueError: it would become very much, or what it says of its parts cannot be true.
    """
    footer = _read_footer(data)
    groups = _structs(footer, _FILE_GROUPS)
    if sum(_number(group, _GROUP_ROWS) for group in groups) != _number(footer, _FILE_ROWS):
        raise ValueError("its groups of rows have another number of rows than it says")
    total = 0
    for group in groups:
        for column in _structs(group, _GROUP_COLUMNS):
            total += sum(_page_sizes(_pages_of(data, column.get(_COLUMN_METADATA))))
    if total > max(PLAUSIBLE_NBYTES, PLAUSIBLE_RATIO * data.nbytes):
        raise ValueError(f"its {data.nbytes} bytes would become {total}")


def _read_footer(data: memoryview) -> Fields:
    """The metadata of all of a file, which stand at its end."""
    if len(data) < _TAIL_NBYTES or data[-len(MAGIC) :] != MAGIC:
        raise ValueError("it does not end as such files do")
    nbytes = int.from_bytes(data[-_TAIL_NBYTES : -len(MAGIC)], "little")
    if nbytes > min(FOOTER_NBYTES, len(data) - _TAIL_NBYTES):
        raise ValueError(f"a footer of {nbytes} bytes is too large")
    return Reader(data[-_TAIL_NBYTES - nbytes : -_TAIL_NBYTES]).struct()


def _pages_of(data: memoryview, column: Any) -> memoryview:
    """Where the pages of a column lie."""
    if not isinstance(column, dict):
        raise ValueError("a column is not described")  # noqa: TRY004  damage, and no wrong type
    start = _number(column, _PAGES_AT)
    dictionary = column.get(_DICTIONARY_AT)
    if isinstance(dictionary, int) and 0 < dictionary < start:
        start = dictionary
    stop = start + _number(column, _COMPRESSED_NBYTES)
    if stop > len(data):
        raise ValueError(f"a column lies at {start} to {stop} of {len(data)} bytes")
    return data[start:stop]


def _page_sizes(column: memoryview) -> Iterator[int]:
    """What each page of a column becomes."""
    reader = Reader(column)
    while reader.place < len(column):
        header = reader.struct()
        for kind, encoding in _PAGE_KINDS.items():
            said = header.get(kind)
            if isinstance(said, dict) and said.get(encoding) == _SHARED_BEGINNINGS:
                raise ValueError("a page has the encoding DELTA_BYTE_ARRAY, which is not read")
        reader.place += _number(header, _PAGE_STORED_NBYTES)
        yield _number(header, _PAGE_NBYTES)


def _number(fields: Fields, field: int) -> int:
    """A field that is a number of bytes or rows."""
    value = fields.get(field)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"what says how large it is says {str(value)[:40]}")
    return value


def _structs(fields: Fields, field: int) -> list[Fields]:
    """A field that is a list of structs."""
    values = fields.get(field)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError("its footer lacks a list of groups or columns")
    return values


class Reader:
    """Structs of Thrift's compact protocol, one after another."""

    def __init__(self, data: memoryview) -> None:
        """Begin at the first byte."""
        self._data = data
        self.place = 0

    def struct(self, depth: int = 0) -> Fields:
        """A struct's fields by number: integers, lists and structs; of others None.

        Raises:
            ValueError: there is none.
        """
        if depth > _MOST_DEPTH:
            raise ValueError("a header is nested too deep")
        fields: Fields = {}
        number = 0
        while (head := self._byte()) != 0:
            step, kind = divmod(head, 16)
            number = number + step if step else self._integer()
            # Of a boolean the kind is the value.
            fields[number] = None if kind in {_TRUE, _FALSE} else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in {_LIST, _SET}:
            return self._list(depth + 1)
        if kind in {_TRUE, _FALSE, _BYTE}:
            self._skip(1)
        elif kind == _DOUBLE:
            self._skip(8)
        elif kind == _BINARY:
            self._skip(self._unsigned())
        else:
            raise ValueError(f"a header has a value of kind {kind}")
        return None

    def _list(self, depth: int) -> list[Any]:
        if depth > _MOST_DEPTH:
            raise ValueError("a header is nested too deep")
        count, kind = divmod(self._byte(), 16)
        if count == 15:  # noqa: PLR2004  the number follows
            count = self._unsigned()
        if count > len(self._data) - self.place:
            raise _ended()
        return [self._value(kind, depth) for _ in range(count)]

    def _integer(self) -> int:
        number = self._unsigned()
        return (number >> 1) ^ -(number & 1)

    def _unsigned(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 0x80:
            number |= (byte & 0x7F) << shift
            shift += 7
            if shift > _MOST_SHIFT:
                raise ValueError("a number in a header is too long")
        return number | byte << shift

    def _byte(self) -> int:
        self._skip(1)
        return self._data[self.place - 1]

    def _skip(self, nbytes: int) -> None:
        if nbytes > len(self._data) - self.place:
            raise _ended()
        self.place += nbytes


def _ended() -> ValueError:
    return ValueError("a header ends too early")
