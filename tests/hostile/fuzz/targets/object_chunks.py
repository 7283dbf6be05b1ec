"""Sound chunks of objects, compressors of numbers and containers; see `chunks`."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import msgpack
import numcodecs
import numpy as np

from tests.hostile.fuzz.targets.chunks import Case, encode, v2, v3, values
from tests.hostile.fuzz.targets.shards import Level, write_shard

if TYPE_CHECKING:
    from tests.hostile.fuzz.targets.chunks import Reference

TEXTS = ["", "a", "zarr", "\u00fcn\u00ef", "\u65e5\u672c", "x" * 40]
BLOBS = [b"", b"\0", b"zarr", b"\xff\0", b"x" * 40, b"a"]
COUNT = len(TEXTS)
LENGTH_NBYTES = 4


def text() -> list[Case]:
    """Elements of variable length, and what Python makes of them."""
    texts, blobs = np.array(TEXTS, object), np.array(BLOBS, object)
    arrays = np.empty(COUNT, object)
    arrays[:] = [np.arange(n, dtype="<i2") for n in range(COUNT)]
    vlen_array = numcodecs.VLenArray("<i2")
    made = [
        (
            v2("|O", [COUNT], filters=[{"id": "vlen-utf8"}], fill_value=""),
            numcodecs.VLenUTF8(),
            texts,
        ),
        (v2("|O", [COUNT], filters=[{"id": "vlen-bytes"}]), numcodecs.VLenBytes(), blobs),
        (v2("|O", [COUNT], filters=[vlen_array.get_config()]), vlen_array, arrays),
        (v3("string", [2, 3], ["vlen-utf8"], ""), numcodecs.VLenUTF8(), texts),
    ]
    readers: list[Reference | None] = [
        lambda chunk: [item.decode() for item in _items(chunk)],
        _items,
        lambda chunk: [np.frombuffer(item, "<i2") for item in _items(chunk)],
        None,
    ]
    return [
        Case(document, [encode(codec, data)], reader)
        for (document, codec, data), reader in zip(made, readers, strict=True)
    ]


def _items(chunk: bytes) -> list[Any]:
    """Lengths in front of elements, one after another."""
    place = LENGTH_NBYTES
    if int.from_bytes(chunk[:place], "little") != COUNT:
        raise ValueError
    found = []
    for _ in range(COUNT):
        length = int.from_bytes(chunk[place : place + LENGTH_NBYTES], "little")
        place += LENGTH_NBYTES
        if len(chunk) < place + length or len(chunk) < place:
            raise ValueError
        found.append(chunk[place : place + length])
        place += length
    return found


def _objects_by(codec: Any, shape: tuple[int, ...]) -> Reference:
    """What numcodecs makes of objects, where they have the shape."""

    def read(chunk: bytes) -> list[Any]:
        found = np.asarray(codec.decode(chunk))
        if found.shape != shape:
            raise ValueError
        return found.tolist()  # type: ignore[no-any-return]

    return read


def objects() -> list[Case]:
    """JSON, MessagePack and categories."""
    mixed = np.empty(COUNT, object)
    mixed[:] = ["a", None, 1.5, {"b": [1, 2]}, True, [[]]]
    table = mixed.reshape(2, 3)
    numbers = np.arange(COUNT, dtype="<i4")
    json2, msgpack2 = numcodecs.JSON(), numcodecs.MsgPack()
    labels = {
        "id": "categorize",
        "labels": ["a", "bb"],
        "dtype": "|O",
        "astype": "|u1",
    }
    deep = b"[" * 500 + b"]" * 500
    return [
        Case(
            v2("|O", [COUNT], filters=[{"id": "json2"}]),
            [encode(json2, mixed), json.dumps(["x", "<U9", []]).encode(), deep],
            _objects_by(json2, (COUNT,)),
            strict=False,
        ),
        Case(
            v2("|O", [2, 3], filters=[{"id": "json2"}]),
            [encode(json2, table)],
            _objects_by(json2, (2, 3)),
            strict=False,
        ),
        Case(v2("<i4", [COUNT], filters=[{"id": "json2"}]), [encode(json2, numbers)]),
        Case(
            v2("|O", [COUNT], filters=[{"id": "msgpack2"}]),
            [encode(msgpack2, mixed), msgpack.packb([1, 2, "|O", [2]])],
            _objects_by(msgpack2, (COUNT,)),
            strict=False,
        ),
        Case(v2("<i4", [COUNT], filters=[{"id": "msgpack2"}]), [encode(msgpack2, numbers)]),
        Case(v2("|O", [COUNT], filters=[labels]), [b"\0\1\2\1\2\3"]),
        Case(v2("<U2", [COUNT], filters=[{**labels, "dtype": "<U2"}]), [b"\0\1\2\1\2\3"]),
    ]


# ------------------------------------------------------------ compressors of numbers, containers


def numbers() -> list[Case]:
    """zfp with and without a header, and pcodec."""
    import zfpy  # noqa: PLC0415  not on every platform

    plane = values("<f4", 48).reshape(6, 8)
    zfpy_codec = numcodecs.get_codec({"id": "zfpy", "mode": 4, "tolerance": 0.01})
    pcodec_codec = numcodecs.get_codec({"id": "pcodec"})
    stream = zfpy.compress_numpy(plane, rate=16, write_header=False)
    lossless = zfpy.compress_numpy(plane, write_header=False)

    def zfp(**settings: Any) -> list[Any]:
        return [{"name": "zfp", "configuration": settings}]

    expert = {"mode": "expert", "minbits": 1, "maxbits": 16658, "maxprec": 13, "minexp": -1074}
    precise = zfpy.compress_numpy(plane, precision=13, write_header=False)
    return [
        Case(v2("<f4", [6, 8], compressor={"id": "zfpy", "mode": 4}), [encode(zfpy_codec, plane)]),
        Case(v2("<f4", [48], compressor={"id": "pcodec"}), [encode(pcodec_codec, plane)]),
        Case(v3("float32", [6, 8], zfp(mode="fixed_rate", rate=16)), [stream]),
        Case(v3("float32", [6, 8], zfp(mode="reversible")), [lossless]),
        Case(v3("float32", [6, 8], zfp(**expert)), [precise]),
    ]


def containers() -> list[Case]:
    """Shards that are decoded whole, and N5 blocks."""
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [4, 6],
            "codecs": [little],
            "index_codecs": [little],
        },
    }
    delta = {"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}
    plane = values("<i4", 96).reshape(8, 12)
    transpose = {"name": "transpose", "configuration": {"order": [1, 0]}}
    big = {"name": "bytes", "configuration": {"endian": "big"}}
    n5 = {"name": "n5_default", "configuration": {"codecs": [transpose, big, "gzip"]}}
    header = b"\0\0\0\2\0\0\0\x08\0\0\0\x0c"
    smaller = b"\0\0\0\2\0\0\0\x03\0\0\0\x0c"
    turned = plane.astype(">i4")
    return [
        Case(v3("int32", [8, 12], [delta, sharding]), [write_shard(plane, [Level((4, 6))], 3)]),
        Case(
            v3("int32", [8, 12], [n5]),
            [
                header + gzip.compress(turned.T.tobytes(), mtime=0),
                smaller + gzip.compress(turned[:3].T.tobytes(), mtime=0),
            ],
        ),
    ]
