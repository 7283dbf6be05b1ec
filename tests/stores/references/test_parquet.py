"""References in Parquet: folders as fsspec writes them, read file by file; and damaged ones."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.errors import GpuzarrError, MetadataError, StoreError, UnsupportedError
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.references import parquet as references_parquet
from gpuzarr.stores.references import store as references
from gpuzarr.stores.references import targets as references_targets
from gpuzarr.stores.references.document import Pointer
from gpuzarr.stores.references.parquet import ParquetReferences
from gpuzarr.stores.references.store import ReferenceStore
from gpuzarr.stores.store import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuzarr.stores.store import Blob, Buffer, Store

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

VALUES = np.arange(200, dtype="<i4").reshape(20, 10)
CHUNKS = (2, 5)
"""20 chunks: two whole files of 8 references, and one of 4."""


def zarray(**members: Any) -> dict[str, Any]:
    return {
        "zarr_format": 2,
        "shape": list(VALUES.shape),
        "chunks": list(CHUNKS),
        "dtype": "<i4",
        "order": "C",
        "compressor": None,
        "filters": None,
        "fill_value": -1,
        **members,
    }


def chunk_bytes(number: int) -> bytes:
    row, column = divmod(number, 2)
    return VALUES[2 * row : 2 * row + 2, 5 * column : 5 * column + 5].tobytes()


def write_file(file: Path, rows: list[Any], count: int = 8, /, **columns: Any) -> None:
    """Rows are None, bytes, (path,) or (path, offset, size); padded to `count`."""
    rows = rows + [None] * (count - len(rows))
    pointers = [row if isinstance(row, tuple) else (None,) for row in rows]
    table = {
        "path": pyarrow.array([row[0] for row in pointers], pyarrow.string()),
        "offset": pyarrow.array([row[1] if len(row) > 1 else 0 for row in pointers]),
        "size": pyarrow.array([row[2] if len(row) > 1 else 0 for row in pointers]),
        "raw": pyarrow.array(
            [row if isinstance(row, bytes) else None for row in rows], pyarrow.binary()
        ),
        **columns,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    table = {name: column for name, column in table.items() if column is not None}
    parquet.write_table(pyarrow.table(table), file, compression="zstd")


def write_folder(root: Path, record_size: int = 8) -> Path:
    """References of an array "group/a" in a file beside the folder, the second chunk inline, the
    third in a file of its own, the fourth missing, and the second file of references too."""
    root.mkdir()
    metadata = {
        ".zgroup": {"zarr_format": 2},
        ".zattrs": {"title": "a test"},
        "group/.zgroup": {"zarr_format": 2},
        "group/a/.zarray": zarray(),
        "group/a/.zattrs": {"_ARRAY_DIMENSIONS": ["y", "x"]},
        "group/s/.zarray": zarray(shape=[], chunks=[]),
    }
    (root / ".zmetadata").write_text(json.dumps({"metadata": metadata, "record_size": record_size}))
    body = b"".join(map(chunk_bytes, range(20)))
    (root.parent / "data.nc").write_bytes(b"HDF" + body)
    (root.parent / "third.bin").write_bytes(chunk_bytes(2))
    rows: list[Any] = [("data.nc", 3 + 40 * number, 40) for number in range(20)]
    rows[1:4] = [chunk_bytes(1), ("third.bin",), None]
    write_file(root / "group/a/refs.0.parq", rows[:8])
    write_file(root / "group/a/refs.2.parq", rows[16:])
    write_file(root / "group/s/refs.0.parq", [("data.nc", 7, 4)])
    return root


EXPECTED = VALUES.copy()
EXPECTED[2:4, 5:] = -1
EXPECTED[8:16] = -1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "refs.parquet")


def test_an_array(folder: Path) -> None:
    group = gpuzarr.open_group(ReferenceStore(folder), device="cpu")
    array = group["group/a"]
    assert isinstance(array, gpuzarr.Array)
    np.testing.assert_array_equal(array[...], EXPECTED)
    np.testing.assert_array_equal(array[3:17:3, ::-1], EXPECTED[3:17:3, ::-1])
    assert array.attrs == {"_ARRAY_DIMENSIONS": ["y", "x"]}
    assert dict(group.attrs) == {"title": "a test"}
    scalar = group["group/s"]
    assert isinstance(scalar, gpuzarr.Array)
    assert scalar[()] == 1
    unconsolidated = gpuzarr.open_group(ReferenceStore(folder), device="cpu", consolidated=False)
    assert sorted(unconsolidated["group"]) == ["a", "s"]


def test_references(folder: Path) -> None:
    references = ParquetReferences(LocalStore(folder))
    assert references.find("group/a/0.0") == Pointer("data.nc", 3, 40)
    assert references.find("group/a/0.1") == chunk_bytes(1)
    assert references.find("group/a/1.0") == Pointer("third.bin", 0, WHOLE)
    assert references.find("group/a/9.1") == Pointer("data.nc", 3 + 19 * 40, 40)
    for key in ("1.1", "4.0", "7.1", "10.0", "0.2", "0", "0.0.0", "00.0", "+0.0", "0. 0", "-1.0"):
        assert references.find(f"group/a/{key}") is None
    for key in ("0.0", "group/0.0", "group/b/0.0", "group/a/0/0", "group/s/0.0", "group/s/1"):
        assert references.find(key) is None
    assert isinstance(references.find("group/a/.zarray"), bytes)


def test_lists_what_is_there(folder: Path) -> None:
    store = ReferenceStore(folder)
    assert set(store.list()) == {
        (".zgroup", False),
        (".zattrs", False),
        (".zmetadata", False),
        ("group", True),
    }
    stored = {f"{n // 2}.{n % 2}" for n in range(20) if n != 3 and not 8 <= n < 16}
    documents = {".zarray", ".zattrs"}
    assert set(store.list("group/a")) == {(name, False) for name in stored | documents}
    assert set(store.list("group/s")) == {(".zarray", False), ("0", False)}


def test_rows_behind_the_last_chunk_are_no_chunks(folder: Path) -> None:
    write_file(folder / "group/s/refs.0.parq", [("data.nc", 7, 4)] * 8)
    write_file(folder / "group/a/refs.2.parq", [("data.nc", 7, 40)] * 8)
    write_file(folder / "group/a/refs.3.parq", [("data.nc", 7, 40)] * 8)
    store = ReferenceStore(folder)
    assert set(store.list("group/s")) == {(".zarray", False), ("0", False)}
    assert len(list(store.list("group/a"))) == 2 + 7 + 4
    assert store.read("group/a/10.0") is None


class Counting(LocalStore):
    """Counts the files that are read."""

    reads: list[str]

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        self.reads.append(key)
        return super().read(key, offset, nbytes, allocate)


@pytest.fixture
def counting(folder: Path) -> Iterator[Counting]:
    store = Counting(folder)
    store.reads = []
    return store  # type: ignore[return-value]


def test_files_are_read_when_they_are_needed_and_kept(counting: Counting) -> None:
    references = ParquetReferences(counting)
    assert counting.reads == [".zmetadata"]
    for _ in range(3):
        for key in ("0.0", "0.1", "3.1", "4.0", "5.1", "9.0"):
            references.find(f"group/a/{key}")
    assert counting.reads[1:] == [f"group/a/refs.{number}.parq" for number in range(3)]


def test_few_files_are_kept(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MOST_KEPT", 1), ("MOST_KEPT_NBYTES", 100)):
        with monkeypatch.context() as patch:
            patch.setattr(references_parquet, name, value)
            references = ParquetReferences(counting)
            counting.reads.clear()
            for key in ("0.0", "9.0", "9.1", "0.0"):
                assert references.find(f"group/a/{key}") is not None
            assert counting.reads == [f"group/a/refs.{number}.parq" for number in (0, 2, 0)]


def test_a_large_array_that_is_empty_lists_nothing_and_reads_nothing(counting: Counting) -> None:
    path = counting.root / ".zmetadata"
    document = json.loads(path.read_text())
    document["metadata"]["e/.zarray"] = zarray(shape=[2**40, 2**20], chunks=[1, 1])
    path.write_text(json.dumps(document))
    references = ParquetReferences(counting)
    assert list(references.children("e")) == [(".zarray", False)]
    assert references.find("e/1099511627775.5") is None
    assert counting.reads == [".zmetadata", f"e/refs.{(2**60 - 2**20 + 5) // 8}.parq"]


def test_what_fsspec_writes(tmp_path: Path) -> None:
    reference = pytest.importorskip("fsspec.implementations.reference")
    pytest.importorskip("kerchunk.df")
    (tmp_path / "data.nc").write_bytes(b"".join(map(chunk_bytes, range(20))))
    refs = reference.LazyReferenceMapper.create(
        str(tmp_path / "refs.parquet"), record_size=8, engine="pyarrow"
    )
    refs[".zgroup"] = json.dumps({"zarr_format": 2})
    refs["a/.zarray"] = json.dumps(zarray())
    for number in range(20):
        key = f"a/{number // 2}.{number % 2}"
        refs[key] = [str(tmp_path / "data.nc"), 40 * number, 40]
        if number % 8 == 5:
            refs[key] = chunk_bytes(number)
    refs.flush()
    array = gpuzarr.open_array(ReferenceStore(tmp_path / "refs.parquet"), path="a", device="cpu")
    np.testing.assert_array_equal(array[...], VALUES)


def test_other_types_of_columns(folder: Path) -> None:
    path = folder / "group/a/refs.0.parq"
    rows: list[Any] = [("data.nc", 3 + 40 * number, 40) for number in range(8)]
    names = pyarrow.array([row[0] for row in rows])
    for columns in (
        {"path": names.dictionary_encode()},
        {"path": names.cast(pyarrow.large_string())},
        {"raw": None},
        {"raw": pyarrow.nulls(8)},
        {"size": pyarrow.array([40] * 8, pyarrow.int32())},
    ):
        write_file(path, rows, **columns)
        references = ParquetReferences(LocalStore(folder))
        assert references.find("group/a/1.1") == Pointer("data.nc", 123, 40)
    write_file(path, [b"x"] * 8, path=None, offset=None, size=None)
    assert ParquetReferences(LocalStore(folder)).find("group/a/1.1") == b"x"
    write_file(path, [], raw=pyarrow.array(["text"] * 8))
    assert ParquetReferences(LocalStore(folder)).find("group/a/1.1") == b"text"


@pytest.mark.parametrize(
    "columns",
    [
        {"offset": pyarrow.array([-1] * 8)},
        {"size": pyarrow.array([-1] * 8)},
        {"offset": pyarrow.array([1] * 8), "size": pyarrow.array([0] * 8)},
        {"offset": pyarrow.array([0.5] * 8)},
        {"size": pyarrow.array(["5"] * 8)},
        {"path": pyarrow.array([5] * 8)},
        {"raw": pyarrow.array([[b"x"]] * 8)},
        {"path": pyarrow.array([b"\xff"] * 8)},
    ],
)
def test_rows_that_are_damaged(folder: Path, columns: dict[str, Any]) -> None:
    path = folder / "group/a/refs.0.parq"
    write_file(path, [("data.nc", 3, 40)] * 8, **columns)
    with pytest.raises(StoreError, match="damaged") as caught:
        ReferenceStore(folder).read("group/a/0.0")
    assert caught.value.key is not None
    with pytest.raises(GpuzarrError):
        gpuzarr.open_array(ReferenceStore(folder), path="group/a", device="cpu")[...]


def test_files_that_are_damaged(folder: Path) -> None:
    path = folder / "group/a/refs.0.parq"
    whole = path.read_bytes()
    step = max(1, len(whole) // 40)
    for cut in [*range(0, len(whole), step), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(StoreError, match="damaged"):
            ParquetReferences(LocalStore(folder)).find("group/a/0.0")
    found = 0
    for place in range(0, len(whole), step):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            ParquetReferences(LocalStore(folder)).find("group/a/0.0")
        except GpuzarrError:
            found += 1
    assert found  # without checksums of pages not every change can be told
    write_file(path, [("data.nc", 3, 40)] * 7, 7)
    with pytest.raises(StoreError, match="7 references are stored where 8 belong"):
        ParquetReferences(LocalStore(folder)).find("group/a/0.0")


def test_a_file_with_too_many_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references_parquet, "MOST_RECORDS", 8)
    write_file(folder / "group/a/refs.0.parq", [("data.nc", 3, 40)] * 9)
    with pytest.raises(StoreError, match="at most 8 are read"):
        ParquetReferences(LocalStore(folder)).find("group/a/0.0")


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"metadata": {}}, MetadataError),
        ({"record_size": 5}, MetadataError),
        ({"metadata": [], "record_size": 5}, MetadataError),
        ({"metadata": {}, "record_size": 0}, MetadataError),
        ({"metadata": {}, "record_size": 2**40}, MetadataError),
        ({"metadata": {}, "record_size": "5"}, MetadataError),
    ],
)
def test_metadata_that_are_damaged(
    tmp_path: Path, document: dict[str, Any], error: type[GpuzarrError]
) -> None:
    (tmp_path / ".zmetadata").write_text(json.dumps(document))
    with pytest.raises(error) as caught:
        ReferenceStore(tmp_path)
    assert caught.value.store == str(tmp_path)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (zarray(chunks=[0, 5]), MetadataError),
        (zarray(chunks=[5]), MetadataError),
        (zarray(shape="x"), MetadataError),
        (zarray(dimension_separator="/"), UnsupportedError),
        (zarray(dimension_separator=["."]), UnsupportedError),
        ("not an object", MetadataError),
    ],
)
def test_arrays_that_are_damaged(folder: Path, value: Any, error: type[GpuzarrError]) -> None:
    path = folder / ".zmetadata"
    document = json.loads(path.read_text())
    document["metadata"]["group/a/.zarray"] = value
    path.write_text(json.dumps(document))
    store = ReferenceStore(folder)
    with pytest.raises(error):
        store.read("group/a/0.0")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match=r"no \.zmetadata"):
        ReferenceStore(tmp_path)


def test_without_pyarrow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UnsupportedError, match=r"gpuzarr\[references\]"):
        ReferenceStore(folder)


def test_documents_may_be_text(folder: Path) -> None:
    path = folder / ".zmetadata"
    document = json.loads(path.read_text())
    document["metadata"] = {key: json.dumps(value) for key, value in document["metadata"].items()}
    document["metadata"]["group/a/.zarray"] = json.loads(document["metadata"]["group/a/.zarray"])
    path.write_text(json.dumps(document))
    group = gpuzarr.open_group(ReferenceStore(folder), device="cpu", consolidated=True)
    array = group["group/a"]
    assert isinstance(array, gpuzarr.Array)
    np.testing.assert_array_equal(array[...], EXPECTED)


def test_pickles(folder: Path) -> None:
    array = gpuzarr.open_array(ReferenceStore(folder), path="group/a", device="cpu")
    again = pickle.loads(pickle.dumps(array))  # noqa: S301  our own
    np.testing.assert_array_equal(again[...], EXPECTED)


def test_a_folder_on_the_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {f"in/{name}": (folder.parent / name).read_bytes() for name in ("data.nc", "third.bin")}

    def open_url(url: str, storage_options: dict[str, Any]) -> Store:
        assert (url, storage_options) in [("s3://bucket/in", {"a": 1}), ("s3://bucket", {})]
        return LocalStore(folder.parent) if url.endswith("in") else MappingStore(files)

    monkeypatch.setattr(references, "open_url", open_url)
    monkeypatch.setattr(references_targets, "open_url", open_url)
    for url in ("s3://bucket/in/refs.parquet", "s3://bucket/in/refs.parquet/"):
        store = ReferenceStore(url, storage_options={"a": 1})
        array = gpuzarr.open_array(store, path="group/a", device="cpu")
        np.testing.assert_array_equal(array[...], EXPECTED)
        assert len(list(store.list("group/a"))) == 13
