"""What fuzzing found, and what reading the code beside it did, each kept from coming back."""

from __future__ import annotations

import itertools
import json
import traceback
import zlib
from typing import Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.cli.selection import parse_selection
from gpuzarr.codecs import plugins
from gpuzarr.codecs.configuration import LONGEST_PROBLEM
from gpuzarr.engines.cpu import zfp_streams
from gpuzarr.metadata import data_types, v3
from gpuzarr.metadata.consolidated import ConsolidatedMetadata
from gpuzarr.metadata.document import MAX_DIMENSIONS
from gpuzarr.metadata.model import GroupMetadata
from tests.arrays import encoded, plain_store
from tests.hostile.fuzz import watch
from tests.hostile.fuzz.target import LONGEST_MESSAGE, Target
from tests.hostile.fuzz.ways import WAYS, Way, reading
from tests.metadata.documents import group_json, zarr_json, zarray

LINE = np.arange(7, dtype=np.int32)
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def read_objects(items: list[Any], shape: tuple[int, ...], codec: str = "json2") -> Any:
    """A chunk of objects, as JSON, read."""
    document = zarray(
        shape=list(shape),
        chunks=list(shape),
        dtype="|O",
        filters=[{"id": codec}],
        compressor=None,
        fill_value=None,
    )
    key = ".".join("0" * len(shape))
    return gpuzarr.open_array({".zarray": encoded(document), key: json.dumps(items).encode()})[...]


def refused_within_limits(kind: type[Exception], what: Any) -> None:
    """Do it as the fuzzer does: within its limits of time and memory."""

    def check(data: bytes) -> Any:
        del data
        with pytest.raises(kind):
            what()
        return "refused"

    result = watch.check_one(Target("one", check, list, 0), b"")
    assert not isinstance(result, watch.Finding), result.text


@pytest.mark.parametrize(
    ("items", "shape"),
    [
        (["a", "|O", [1] * 60_000], (1,)),
        ([*[["a"]] * 30_000, "|O", [30_000, "x" * 30_000]], (30_000,)),
        ([[["a"]], "|O", [1, 1, True]], (1,)),
        ([["a"], "|O", [1] * (MAX_DIMENSIONS + 1)], (1,)),
    ],
    ids=["many axes", "text for an axis", "a truth value", "one axis too many"],
)
def test_shapes_of_objects_are_shapes(items: list[Any], shape: tuple[int, ...]) -> None:
    """They took a minute, and a gigabyte."""
    refused_within_limits(gpuzarr.DecodeError, lambda: read_objects(items, shape))


@pytest.mark.parametrize("item", ["ab", {"x": 1, "y": 2}])
def test_text_and_objects_are_no_lists(item: Any) -> None:
    """Letters and names were read as elements."""
    with pytest.raises(gpuzarr.DecodeError, match="shape"):
        read_objects([item, "|O", [1, 2]], (2,))
    assert read_objects([[item, item], "|O", [1, 2]], (1, 2)).tolist() == [[item, item]]


def test_a_zfp_header_cannot_ask_for_more_than_is_there() -> None:
    """32 bytes asked for 8 GiB, in which decoding took half a minute."""
    pytest.importorskip("zfpy")
    count = 1 << 20
    expert = {"mode": "expert", "minbits": 1 << 15, "maxbits": 1 << 15}
    header, bits = zfp_streams.build_header(
        "float32", [count], {**expert, "maxprec": 64, "minexp": -1074}
    )
    document = zarray(
        shape=[count], chunks=[count], dtype="<f4", compressor={"id": "zfpy", "mode": 4}
    )
    store = {
        ".zarray": encoded(document),
        "0": header.to_bytes(-(-bits // 8), "little") + b"\0" * 9,
    }
    refused_within_limits(gpuzarr.DecodeError, lambda: gpuzarr.open_array(store)[...])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("codec", "fill", "due"), [("vlen-bytes", "YWI=", b"ab"), ("json2", [1, [2]], [1, [2]])]
)
def test_a_missing_object_is_the_fill_value(way: Way, codec: str, fill: Any, due: Any) -> None:
    """Where there is but one, it was an array with the fill value in it."""
    document = zarray(
        shape=[], chunks=[], dtype="|O", filters=[{"id": codec}], compressor=None, fill_value=fill
    )
    array = gpuzarr.open_array({".zarray": encoded(document)})
    out = np.empty((), object)
    with reading(way):
        assert array[...].item() == due
        assert array.read(out=out).item() == due
        assert gpuzarr.read_batch([(array, ...), (array, None)])[0].item() == due


@pytest.mark.parametrize("key", [range(0), range(3, 0), (range(0),)], ids=str)
def test_sequences_of_nothing_are_indices(key: Any) -> None:
    """As for NumPy, whatever kind of sequence it is; arrays must be of integers."""
    np.testing.assert_array_equal(gpuzarr.open_array(plain_store(LINE, (3,)))[key], LINE[key])
    with pytest.raises(gpuzarr.SelectionError):
        gpuzarr.open_array(plain_store(LINE, (3,)))[np.zeros(0)]


def test_chunks_of_nothing_in_shards_of_nothing() -> None:
    """Counting the chunks divided by zero."""
    inner = {"chunk_shape": [0], "codecs": ["bytes"], "index_codecs": ["bytes"]}
    document = zarr_json(
        shape=[0],
        chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0]}},
        codecs=[{"name": "sharding_indexed", "configuration": inner}],
    )
    array = gpuzarr.open_array({"zarr.json": encoded(document)})
    assert array.nchunks == 0
    with pytest.raises(gpuzarr.MetadataError):
        array[...]


def test_errors_do_not_repeat_long_texts() -> None:
    with pytest.raises(gpuzarr.SelectionError) as wrong_text:
        parse_selection("(" * 90_000)
    assert len(str(wrong_text.value)) < 1_000
    codec = {"name": "zstd", "configuration": {"level": "x" * 9_000}}
    array = gpuzarr.open_array({"zarr.json": encoded(zarr_json(codecs=[LITTLE, codec]))})
    with pytest.raises(gpuzarr.MetadataError) as wrong_codec:
        array[...]
    assert LONGEST_PROBLEM < len(str(wrong_codec.value)) < LONGEST_PROBLEM + 200


def test_errors_of_libraries_are_cut() -> None:
    with pytest.raises(gpuzarr.DecodeError) as caught:
        read_objects(["a", "<" + "[" * 9_000, [1]], (1,))
    assert len(str(caught.value)) < 1_000


def test_errors_do_not_list_hundreds_of_codecs() -> None:
    codecs = [LITTLE, *(f"unknown-{number}-{'x' * 500}" for number in range(10))]
    array = gpuzarr.open_array({"zarr.json": encoded(zarr_json(codecs=codecs))})
    with pytest.raises(gpuzarr.UnsupportedError) as caught:
        array[...]
    assert len(caught.value.reasons) == 10
    assert len(str(caught.value)) < LONGEST_MESSAGE
    assert "5 more reasons" in str(caught.value)


@pytest.mark.parametrize("must_understand", [True, False])
def test_packages_are_not_searched_for_thousands_of_codecs(
    must_understand: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Shards in shards may hold as many; each took some milliseconds."""
    asked: list[str] = []

    def find_plugin(group: str, name: str) -> None:
        del group
        asked.append(name)

    monkeypatch.setattr(plugins, "find_plugin", find_plugin)
    numbers = itertools.count()
    codecs: list[Any] = [LITTLE]
    for _ in range(30):
        unknown = [
            {"name": f"unknown-{next(numbers)}", "must_understand": must_understand}
            for _ in range(100)
        ]
        inner = {"chunk_shape": [4, 3], "codecs": codecs, "index_codecs": [LITTLE]}
        codecs = [{"name": "sharding_indexed", "configuration": inner}, *unknown]
    array = gpuzarr.open_array({"zarr.json": encoded(zarr_json(codecs=codecs))})
    with pytest.raises(gpuzarr.UnsupportedError, match=r"more (reasons|than)"):
        array[...]
    assert len(asked) < 100


def test_an_error_that_is_raised_again_does_not_grow() -> None:
    array = gpuzarr.open_array({"zarr.json": encoded(zarr_json(codecs=["unknown"]))})
    lengths = []
    for _ in range(20):
        assert array.shards is None
        with pytest.raises(gpuzarr.UnsupportedError) as caught:
            array[...]
        lengths.append(len(traceback.extract_tb(caught.value.__traceback__)))
    assert max(lengths[1:]) == min(lengths[1:])


# Found beside the fuzzing, by asking of each loop what an input of some hundred KiB makes of it.


def opened(document: dict[str, Any], **chunks: bytes) -> Any:
    stored = {f"c/{number}": data for number, data in enumerate(chunks.values())}
    return gpuzarr.open({"zarr.json": encoded(document), **stored})


def test_long_texts_are_no_numbers_soon() -> None:
    """A regular expression tried every place to cut the digits in two: minutes."""
    document = zarr_json(fill_value="1" * 300_000 + "x")
    refused_within_limits(gpuzarr.MetadataError, lambda: opened(document))


@pytest.mark.parametrize(
    ("text", "number"), [("1.", 1.0), (".5", 0.5), ("-2.5e3", -2500.0), ("007", 7.0), ("+1E2", 100)]
)
def test_texts_that_are_numbers(text: str, number: float) -> None:
    assert opened(zarr_json(fill_value=text)).fill_value == number


def test_names_of_groups_are_not_multiplied() -> None:
    """A long name of a group stood before each of its members' paths: gigabytes."""
    inner = {"kind": "inline", "metadata": {str(number): {} for number in range(5_000)}}
    group = group_json(consolidated_metadata=inner)
    outer = {"kind": "inline", "metadata": {"x" * 500_000: group}}
    refused_within_limits(
        gpuzarr.MetadataError, lambda: opened(group_json(consolidated_metadata=outer))
    )


class LookedAt(dict[str, Any]):
    """Counts how often all its keys are looked at."""

    times = 0

    def __iter__(self) -> Any:
        self.times += 1
        return super().__iter__()


def test_paths_are_put_in_order_once() -> None:
    """Each group looked at all paths for its own: half a minute for 8,000 groups."""
    documents = LookedAt()
    for number in range(50):
        documents[f"g{number}"] = documents[f"g{number}/below"] = group_json()
    root = ConsolidatedMetadata(documents, v3.parse_group)
    for number in range(50):
        group = root[f"g{number}"]
        assert isinstance(group, GroupMetadata)
        assert group.consolidated is not None
        assert list(group.consolidated) == group.consolidated.children() == ["below"]
        assert len(group.consolidated) == 1
    assert documents.times <= 3


def test_structs_in_structs_are_parsed_once() -> None:
    """Each level parsed all below it again, for the fill value."""
    data_type: Any = "int8"
    fill: Any = 0
    for _ in range(20):
        data_type = {"name": "struct", "configuration": {"fields": [["a", data_type]]}}
        fill = {"a": fill}
    parsed = []

    def count(value: Any, where: str) -> Any:
        parsed.append(where)
        return parse_field(value, where)

    parse_field = data_types._parse_field  # noqa: SLF001  to be counted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_types, "_parse_field", count)
        assert opened(zarr_json(data_type=data_type, fill_value=fill)).ndim == 2
    assert len(parsed) == 20


def test_scalar_maps_are_short() -> None:
    """Each pair was looked for in each chunk."""
    pairs = [[number, float(number)] for number in range(5_000)]
    configuration = {"data_type": "int32", "scalar_map": {"decode": pairs}}
    document = zarr_json(codecs=[{"name": "cast_value", "configuration": configuration}, LITTLE])
    with pytest.raises(gpuzarr.UnsupportedError, match="5000 scalars"):
        opened(document)[...]
    configuration["scalar_map"] = {"decode": pairs[:4_000]}
    array = opened(document | {"shape": [4, 3]}, **{"c/0/0": b""})
    assert array[0, 0] == 0


@pytest.mark.parametrize("dtype", ["<U0", "<U99999"])
def test_labels_take_no_more_than_their_text(dtype: str) -> None:
    """Each label is as long as the dtype, or as the longest: 335 GiB."""
    labels = ["x" * 10_000, *["a"] * 10_000]
    codec = {"id": "categorize", "labels": labels, "dtype": dtype, "astype": "|u1"}
    document = zarray(dtype="<U1", filters=[codec], compressor=None, fill_value="")
    store = {".zarray": encoded(document), "0.0": bytes(12)}
    refused_within_limits(gpuzarr.MetadataError, lambda: gpuzarr.open_array(store)[...])


def test_a_chain_of_compressors_allows_no_more_than_one() -> None:
    """A hundred of them, each at a small loss, allowed a gigabyte in between."""
    codecs = [LITTLE, *[{"name": "gzip", "configuration": {"level": 1}}] * 100]
    grid = {"name": "regular", "configuration": {"chunk_shape": [10]}}
    document = zarr_json(shape=[10], chunk_grid=grid, codecs=codecs)
    compressor = zlib.compressobj(1, wbits=31)
    pieces = [compressor.compress(bytes(1 << 20)) for _ in range(400)]
    bomb = b"".join([*pieces, compressor.flush()])
    refused_within_limits(gpuzarr.DecodeError, lambda: opened(document, chunk=bomb)[...])


@pytest.mark.parametrize("name", ["<,16", "()" * 200 + "f8", "<a4", "f" * 9_000, "\ud800"])
def test_names_of_dtypes_that_numpy_parses_as_python(name: str) -> None:
    for codec in (
        {"id": "delta", "dtype": "<f4", "astype": name},
        {"id": "vlen-array", "dtype": name},
        {"id": "categorize", "dtype": name, "labels": ["a"], "astype": "|u1"},
    ):
        store = {".zarray": encoded(zarray(filters=[codec])), "0.0": b"\0" * 99}
        with pytest.raises(gpuzarr.GpuzarrError):
            gpuzarr.open_array(store)[...]
