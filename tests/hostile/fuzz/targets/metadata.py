"""Metadata documents of both formats, and consolidated ones: opened, described, read where missing.

Whatever a document says, what can be opened can be described and browsed, and where nothing is
stored reads give the fill value; chunks of noise are refused, or are data of the right type.
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np

import gpuzarr
from gpuzarr.errors import GpuzarrError
from gpuzarr.plan.keys import chunk_key
from tests.hostile.fuzz.target import Outcome, Target, refused
from tests.metadata.documents import ZARRAY, group_json, zarr_json, zarray
from tests.metadata.test_hostile import (
    ARRAYS_V2,
    ARRAYS_V3,
    CONSOLIDATED,
    RECTILINEAR,
    SHARDS,
    ZMETADATA,
)

READ_AXES = 3
"""Axes of which two elements are read; of the others one."""
LARGE_ITEM = 1 << 16
NOISE = bytes(range(7, 103))
MOST_MEMBERS = 50

SHARDED = zarr_json(shape=[8, 6], codecs=[deepcopy(SHARDS)])
NUMCODECS: list[dict[str, Any]] = [
    {"id": "delta", "dtype": "<f4", "astype": "<i4"},
    {"id": "fixedscaleoffset", "scale": 10, "offset": 1, "dtype": "<f4", "astype": "|u1"},
    {"id": "astype", "encode_dtype": "<f8", "decode_dtype": "<f4"},
    {"id": "packbits"},
    {"id": "shuffle", "elementsize": 4},
    {"id": "lzma", "format": 1, "check": -1, "preset": None, "filters": None},
    {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    {"id": "crc32", "location": "end"},
    {"id": "quantize", "digits": 2, "dtype": "<f4"},
]
LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
ZARR_CODECS: list[list[Any]] = [
    [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE, {"name": "crc32c"}],
    [LITTLE, {"name": "zstd", "configuration": {"level": 1, "checksum": True}}],
    [{"name": "numcodecs.delta", "configuration": {"dtype": "<f4"}}, SHARDS],
    [{"name": "reshape", "configuration": {"shape": [[0, 1], -1]}}, LITTLE],
    [{"name": "scale_offset", "configuration": {"scale": 2, "offset": "NaN"}}, LITTLE],
    [
        {
            "name": "cast_value",
            "configuration": {
                "data_type": "uint8",
                "rounding": "nearest-even",
                "out_of_range": "clamp",
                "scalar_map": {"decode": [[255, "NaN"]]},
            },
        },
        LITTLE,
    ],
    [{"name": "packbits", "configuration": {"first_bit": 0, "last_bit": 3}}],
    [{"name": "zfp", "configuration": {"mode": "fixed_rate", "rate": 8}}],
    [
        {
            "name": "n5_default",
            "configuration": {
                "codecs": [{"name": "transpose", "configuration": {"order": [1, 0]}}, LITTLE]
            },
        }
    ],
]


def check_v3(data: bytes) -> Outcome:
    """A `zarr.json` at the root."""
    return _check("zarr.json", data)


def check_v2(data: bytes) -> Outcome:
    """A `.zarray` at the root."""
    return _check(".zarray", data)


def check_zmetadata(data: bytes) -> Outcome:
    """A `.zmetadata` at the root."""
    return _check(".zmetadata", data)


def _check(key: str, data: bytes) -> Outcome:
    store: dict[str, bytes] = {key: data}
    try:
        node = gpuzarr.open(store, device="cpu")
    except GpuzarrError as error:
        return refused(error)
    return explore_group(node) if isinstance(node, gpuzarr.Group) else explore_array(node, store)


def explore_group(group: gpuzarr.Group) -> Outcome:
    """Browse a group: what cannot be opened is drawn, and raises when it is asked for."""
    assert repr(group)
    assert dict(group.attrs) is not None
    assert str(group.tree())
    below = group.metadata.consolidated
    for path, _ in zip([] if below is None else below, range(MOST_MEMBERS), strict=False):
        try:
            member = group[path]
        except GpuzarrError as error:
            refused(error)
            continue
        assert member.path == path
        if isinstance(member, gpuzarr.Array):
            explore_array(member, {})
    return "right"


def explore_array(array: gpuzarr.Array, store: dict[str, bytes]) -> Outcome:
    """Describe an array; read a corner of it, where nothing is stored and where noise is."""
    assert repr(array)
    assert json.dumps(dict(array.attrs)) is not None
    try:
        assert str(array.info)
        assert array._repr_html_()
        assert array.chunks is not None
        assert array.nchunks >= 0
    except GpuzarrError as error:
        refused(error)
    try:
        assert str(array.explain())
    except GpuzarrError as error:
        refused(error)
    most = 2 if array.dtype.itemsize < LARGE_ITEM else 1
    key = tuple(
        slice(0, most) if axis < READ_AXES or length == 0 else 0
        for axis, length in enumerate(array.shape)
    )
    try:
        corner = array[key]
    except GpuzarrError as error:
        return refused(error)
    lengths = (min(most, length) for length in array.shape[:READ_AXES])
    rest = (0 for length in array.shape[READ_AXES:] if length == 0)
    assert corner.shape == (*lengths, *rest)
    assert corner.dtype == array.dtype
    _assert_filled(corner, array.fill_value)
    return _read_noise(array, store, key, corner)


def _assert_filled(values: np.ndarray[Any, Any], fill: Any) -> None:
    """All elements are the fill value, bit for bit; None is zeros."""
    if not values.size:
        return
    if values.dtype.hasobject or values.dtype.kind == "T":
        first = values.reshape(-1)[0]
        due = fill if fill is not None else first
        assert first == due or first is due or first != first, (first, due)  # noqa: PLR0124  NaN
        return
    due = np.zeros((), values.dtype) if fill is None else np.array(fill, values.dtype)
    if fill is None and values.dtype.kind in "mM":
        due = np.array("NaT", values.dtype)
    assert np.ascontiguousarray(values).tobytes() == due.tobytes() * values.size


def _read_noise(
    array: gpuzarr.Array, store: dict[str, bytes], key: Any, corner: np.ndarray[Any, Any]
) -> Outcome:
    """Read once more, with noise for a first chunk."""
    encoding = array.metadata.chunk_key_encoding
    store[chunk_key((0,) * array.ndim, encoding, array.path)] = NOISE
    try:
        found = array[key]
    except GpuzarrError as error:
        refused(error)
    else:
        assert (found.shape, found.dtype) == (corner.shape, corner.dtype)
    return "right"


def _encoded(documents: list[Any]) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


def _seeds_v3() -> list[bytes]:
    chains = [zarr_json(codecs=codecs) for codecs in ZARR_CODECS]
    grids = [zarr_json(chunk_grid=RECTILINEAR), SHARDED]
    return _encoded([*ARRAYS_V3, *chains, *grids, zarr_json(shape=[], chunk_grid=_regular([]))])


def _regular(chunks: list[int]) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": chunks}}


def _seeds_v2() -> list[bytes]:
    filters = [zarray(filters=[codec]) for codec in NUMCODECS]
    compressors = [zarray(compressor=codec) for codec in NUMCODECS]
    objects = [
        zarray(dtype="|O", filters=[{"id": name}], fill_value=fill)
        for name, fill in (("json2", None), ("msgpack2", 0), ("vlen-bytes", ""), ("vlen-array", 0))
    ]
    for codec in objects[-1]["filters"]:
        codec["dtype"] = "<i4"
    return _encoded([*ARRAYS_V2, *filters, *compressors, *objects])


def _seeds_consolidated() -> list[bytes]:
    nested: dict[str, Any] = deepcopy(CONSOLIDATED)
    nested["metadata"]["g"] = group_json(consolidated_metadata=deepcopy(CONSOLIDATED))
    return _encoded(
        [
            group_json(consolidated_metadata=CONSOLIDATED, attributes={"a": 1}),
            group_json(consolidated_metadata=nested),
            group_json(consolidated_metadata=None),
            group_json(),
        ]
    )


def _seeds_zmetadata() -> list[bytes]:
    array = {"zarr_consolidated_format": 1, "metadata": {".zarray": ZARRAY, ".zattrs": {}}}
    return _encoded([ZMETADATA, array])


TOKENS = tuple(
    token.encode()
    for token in (
        *(
            '"name"',
            '"configuration"',
            "null",
            "true",
            "NaN",
            "-Infinity",
            "1e999",
            "[[",
            "{}",
            ",",
        ),
        *(
            '"must_understand": false',
            '"\\ud800"',
            "9" * 25,
            "-0.0",
            "\ufeff",
            '"a/../b"',
            "\u00e9",
        ),
    )
)

TARGETS = tuple(
    Target(name, check, seeds, inputs, TOKENS, is_json=True, longest=8_192)
    for name, check, seeds, inputs in (
        ("metadata-v3", check_v3, _seeds_v3, 700),
        ("metadata-v2", check_v2, _seeds_v2, 700),
        ("consolidated-v3", check_v3, _seeds_consolidated, 300),
        ("consolidated-v2", check_zmetadata, _seeds_zmetadata, 300),
    )
)
