"""Parquet files of few bytes that would become very many, and those that say what is not so."""

from __future__ import annotations

import io
from typing import Any

import pytest

from gpuzarr.errors import StoreError
from gpuzarr.stores.references import pages
from gpuzarr.stores.references.parquet import _parse_records

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

MANY = [f"{number:08}" + "x" * (1 << 16) for number in range(100)]
"""6 MiB, and some KiB where they are compressed."""


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PLAUSIBLE_NBYTES", 1 << 20)


def written(texts: list[Any], kind: Any = None, **choices: Any) -> bytes:
    table = pyarrow.table({"path": pyarrow.array(texts, kind or pyarrow.string())})
    out = io.BytesIO()
    parquet.write_table(table, out, **{"compression": "zstd", "use_dictionary": False} | choices)
    return out.getvalue()


def varint(number: int, length: int = 0) -> bytes:
    """An integer of Thrift's compact protocol, in at least so many bytes."""
    out, number = b"", 2 * number
    while number > 127 or len(out) < length - 1:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


@pytest.mark.parametrize("compression", ["zstd", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("use_dictionary", [False, True])
def test_what_would_become_very_much_is_refused(compression: str, *, use_dictionary: bool) -> None:
    data = written(MANY, compression=compression, use_dictionary=use_dictionary)
    assert len(data) < 1 << 20
    with pytest.raises(StoreError, match=r"its \d+ bytes would become 6\d+"):
        _parse_records(memoryview(data))


def test_what_is_large_itself_is_read() -> None:
    assert _parse_records(memoryview(written(MANY, compression="none"))).paths == MANY


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_many_pages_and_groups(version: str) -> None:
    texts = [str(number) for number in range(3000)]
    data = written(
        texts,
        data_page_size=100,
        row_group_size=1000,
        data_page_version=version,
        max_rows_per_page=50,
    )
    metadata = parquet.read_metadata(io.BytesIO(data))
    assert metadata.num_row_groups == 3
    assert _parse_records(memoryview(data)).paths == texts


def test_what_lies_below_a_column_counts() -> None:
    data = written([MANY], pyarrow.list_(pyarrow.string()))
    with pytest.raises(StoreError, match="would become"):
        _parse_records(memoryview(data))


def test_texts_that_share_their_beginnings_are_refused() -> None:
    """100 of them are as long as all of `MANY`, and lie in a page of one."""
    data = written([MANY[0]] * 100, column_encoding={"path": "DELTA_BYTE_ARRAY"})
    with pytest.raises(StoreError, match="DELTA_BYTE_ARRAY"):
        _parse_records(memoryview(data))


@pytest.mark.parametrize("said", [1, 1 << 12, -1])
def test_pages_that_say_that_they_are_small(said: int) -> None:
    """No more comes out than a page says, so that what it says can be relied on."""
    data = bytearray(written(MANY, data_page_size=1 << 30))
    column = parquet.read_metadata(io.BytesIO(data)).row_group(0).column(0)
    reader = pages.Reader(memoryview(data)[column.data_page_offset :])
    true = varint(reader.struct()[2])
    lie = varint(said, len(true)) if said > 0 else b"\x81" + varint(0, len(true))[1:]  # -1
    at = data.index(true)
    data[at : at + len(true)] = lie
    with pytest.raises(StoreError, match="damaged"):
        _parse_records(memoryview(data))


def test_every_place_damaged() -> None:
    """Nothing but our errors, whatever the headers say."""
    whole = written(["a", "b", None] * 20, data_page_size=10)
    refused = 0
    for place in range(len(whole)):
        for bit in (1, 0x80):
            data = whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
            try:
                _parse_records(memoryview(data))
            except StoreError:
                refused += 1
    assert refused > len(whole) // 4
