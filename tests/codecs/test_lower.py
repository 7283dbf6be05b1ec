"""Each codec lowers to the steps that undo it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpuzarr.codecs.lower import CODECS, lower
from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.model import CodecMetadata, DataType, RectilinearGrid
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    Decompress,
    HostOnly,
    ScaleOffset,
    Step,
    UnpackBits,
    Unshuffle,
    VerifyChecksum,
)
from tests.codecs.chains import BIG, LITTLE, CodecLike, lower_chain_of, make_metadata


@pytest.mark.parametrize(
    ("codec", "step"),
    [
        (("zstd", {"level": 3, "checksum": True}), Decompress("zstd")),
        (("gzip", {"level": 5}), Decompress("gzip")),
        (("blosc", {"cname": "lz4", "shuffle": "bitshuffle", "typesize": 4}), Decompress("blosc")),
        (("blosc", {"cname": "snappy"}), Decompress("blosc", '{"cname":"snappy"}')),
        ("crc32c", VerifyChecksum("crc32c")),
        (("numcodecs.zlib", {"level": 1}), Decompress("zlib")),
        (("numcodecs.gzip", {"level": 1}), Decompress("gzip")),
        (("numcodecs.bz2", {"level": 1}), Decompress("bz2")),
        ("numcodecs.lzma", Decompress("lzma", '{"format":1}')),
        (
            ("numcodecs.lzma", {"format": 3, "filters": [{"id": 33}], "preset": None}),
            Decompress("lzma", '{"filters":[{"id":33}],"format":3}'),
        ),
        (("numcodecs.lz4", {"acceleration": 1}), Decompress("lz4")),
        (("numcodecs.zstd", {"level": 0}), Decompress("zstd")),
        (("numcodecs.blosc", {"cname": "zstd", "shuffle": 2}), Decompress("blosc")),
        (("numcodecs.shuffle", {"elementsize": 2}), Unshuffle(2)),
        ("numcodecs.shuffle", Unshuffle(4)),
        ("numcodecs.crc32", VerifyChecksum("crc32", "start")),
        (("numcodecs.crc32", {"location": "end"}), VerifyChecksum("crc32", "end")),
        ("numcodecs.crc32c", VerifyChecksum("crc32c", "end")),
        ("numcodecs.adler32", VerifyChecksum("adler32", "start")),
        ("numcodecs.fletcher32", VerifyChecksum("fletcher32")),
        ("numcodecs.jenkins_lookup3", HostOnly("numcodecs.jenkins_lookup3", '{"initval":0}')),
        ("numcodecs.base64", HostOnly("numcodecs.base64")),
    ],
)
def test_bytes_codecs(codec: CodecLike, step: Step) -> None:
    lowered = lower_chain_of("int32", (4, 6), LITTLE, codec)
    assert lowered.program.steps == (step,)
    assert lowered.program.layout.dtype == np.dtype("<i4")
    assert lowered.shard is None
    assert lowered.object_steps == ()


def test_an_element_size_of_one_shuffles_nothing() -> None:
    codec = ("numcodecs.shuffle", {"elementsize": 1})
    assert lower_chain_of("int32", (4,), LITTLE, codec).program.steps == ()


@pytest.mark.parametrize(
    ("data_type", "codec", "step"),
    [
        ("float32", ("numcodecs.bitround", {"keepbits": 3}), None),
        ("float32", ("bitround", {"keepbits": 3}), None),
        ("int32", ("scale_offset", {}), None),
        (
            "float32",
            ("scale_offset", {"scale": 0.1, "offset": 5}),
            ScaleOffset("<f4", "<f4", float(np.float32(0.1)), 5.0, "scale_offset"),
        ),
        (
            "float32",
            ("scale_offset", {"offset": "0x3f800000"}),
            ScaleOffset("<f4", "<f4", 1.0, 1.0, "scale_offset"),
        ),
        (
            "int16",
            ("scale_offset", {"offset": -7}),
            ScaleOffset("<i2", "<i2", 1, -7, "scale_offset"),
        ),
        (
            "float64",
            ("cast_value", {"data_type": "uint8", "scalar_map": {"decode": [[0, "NaN"]]}}),
            Cast("|u1", "<f8", '{"rounding":"nearest-even","scalar_map":[[0,"NaN"]]}'),
        ),
        (
            "int16",
            ("cast_value", {"data_type": "int8", "out_of_range": "wrap"}),
            Cast("|i1", "<i2", '{"out_of_range":"wrap","rounding":"nearest-even"}'),
        ),
        (
            "int32",
            ("numcodecs.delta", {"dtype": "<i4", "astype": "<i2"}),
            CumulativeSum("<i2", "<i4"),
        ),
        (
            "float64",
            (
                "numcodecs.fixedscaleoffset",
                {"scale": 10, "offset": 1.5, "dtype": "<f8", "astype": "|u1"},
            ),
            ScaleOffset("|u1", "<f8", 10, 1.5, "fixedscaleoffset"),
        ),
        (
            "float64",
            ("numcodecs.quantize", {"digits": 2, "dtype": "<f8", "astype": "<f4"}),
            Cast("<f4", "<f8"),
        ),
        ("float64", ("numcodecs.quantize", {"digits": 2, "dtype": "<f8"}), None),
        (
            "int32",
            ("numcodecs.astype", {"encode_dtype": "<f4", "decode_dtype": "<i4"}),
            Cast("<f4", "<i4"),
        ),
        ("bool", ("numcodecs.packbits", {}), UnpackBits("|b1", 1, "first_byte", order="big")),
    ],
)
def test_array_codecs(data_type: str, codec: CodecLike, step: Step | None) -> None:
    program = lower_chain_of(data_type, (4, 6), codec, LITTLE).program
    assert program.steps == (() if step is None else (step,))
    assert program.layout.axes == (0, 1)


def test_byte_order_goes_to_the_step_nearest_to_the_bytes() -> None:
    program = lower_chain_of(
        "float64",
        (4,),
        ("scale_offset", {"offset": 1}),
        ("cast_value", {"data_type": "int16"}),
        BIG,
    ).program
    assert program.steps == (
        Cast(">i2", "<f8", '{"rounding":"nearest-even"}'),
        ScaleOffset("<f8", "<f8", 1.0, 1.0, "scale_offset"),
    )
    assert program.layout.dtype == np.dtype("<f8")
    assert lower_chain_of("float64", (4,), BIG).program.layout.dtype == np.dtype(">f8")


@pytest.mark.parametrize(
    ("data_type", "codec", "step", "stored"),
    [
        ("bool", "packbits", UnpackBits("|b1", 1), "|b1"),
        ("int4", "packbits", UnpackBits("int4", 4, sign_extend=True), None),
        ("uint2", "packbits", UnpackBits("uint2", 2), None),
        ("float6_e2m3fn", "packbits", UnpackBits("float6_e2m3fn", 6), None),
        (
            "int16",
            ("packbits", {"first_bit": 2, "last_bit": 8, "padding_encoding": "last_byte"}),
            UnpackBits("<i2", 7, "last_byte", 2, sign_extend=True),
            "<i2",
        ),
        ("complex64", "packbits", UnpackBits("<c8", 32), "<c8"),
        ("int4", "bytes", UnpackBits("int4", 8, sign_extend=True), None),
        ("float4_e2m1fn", "bytes", UnpackBits("float4_e2m1fn", 8), None),
        ("string", "vlen-utf8", HostOnly("vlen-utf8", decoded="|O"), "|O"),
        ("bytes", "vlen-bytes", HostOnly("vlen-bytes", decoded="|O"), "|O"),
        (
            "float32",
            ("zfp", {"mode": "fixed_rate", "rate": 4}),
            HostOnly("zfp", '{"mode":"fixed_rate","rate":4.0,"shape":[4,6]}', "<f4", True),  # noqa: FBT003
            "<f4",
        ),
        ("float32", "numcodecs.zfpy", HostOnly("numcodecs.zfpy", "{}", "<f4", True), "<f4"),  # noqa: FBT003
        ("int32", "numcodecs.pcodec", HostOnly("numcodecs.pcodec", "{}", "<i4", True), "<i4"),  # noqa: FBT003
    ],
)
def test_array_to_bytes_codecs(
    data_type: str, codec: CodecLike, step: Step, stored: str | None
) -> None:
    program = lower_chain_of(data_type, (4, 6), codec).program
    assert program.steps == (step,)
    if stored is not None:
        assert program.layout.dtype == np.dtype(stored)


@pytest.mark.parametrize("data_type", ["int8", "uint8", "bool", "r24", "struct"])
def test_bytes_without_endian(data_type: str) -> None:
    parsed: str | DataType = data_type
    if data_type == "struct":
        parsed = DataType("struct", np.dtype([("a", "<i4"), ("b", "S2")]))
    lowered = lower_chain_of(parsed, (4,), "bytes")
    assert lowered.program.steps == ()


def test_structs_store_each_field_in_the_one_byte_order() -> None:
    parsed = DataType("struct", np.dtype([("a", "<i4"), ("b", [("c", "<f8")])]))
    dtype = lower_chain_of(parsed, (4,), BIG).program.layout.dtype
    assert dtype == np.dtype([("a", ">i4"), ("b", [("c", ">f8")])])


def test_fields_of_v2_keep_their_own_byte_order() -> None:
    stored = np.dtype([("a", ">i4"), ("b", "<f8")])
    parsed = DataType("struct", np.dtype([("a", "<i4"), ("b", "<f8")]), stored)
    assert lower_chain_of(parsed, (4,), "bytes").program.layout.dtype == stored


def test_big_endian_bfloat16_keeps_its_order_and_name() -> None:
    program = lower_chain_of("bfloat16", (4,), ("scale_offset", {"scale": 2}), BIG).program
    (step,) = program.steps
    assert isinstance(step, ScaleOffset)
    assert (step.encoded, step.decoded) == (">bfloat16", "bfloat16")


def test_filters_of_v2_follow_bytes_with_dtypes_of_their_own() -> None:
    program = lower_chain_of(
        "float64",
        (4, 6),
        ("transpose", {"order": [1, 0]}),
        BIG,
        (
            "numcodecs.fixedscaleoffset",
            {"scale": 10, "offset": 0, "dtype": ">f8", "astype": ">i4"},
        ),
        ("numcodecs.delta", {"dtype": ">i4", "astype": ">i2"}),
        ("numcodecs.shuffle", {"elementsize": 2}),
        ("numcodecs.zlib", {"level": 1}),
    ).program
    assert program.steps == (
        Decompress("zlib"),
        Unshuffle(2),
        CumulativeSum(">i2", ">i4"),
        ScaleOffset(">i4", ">f8", 10, 0, "fixedscaleoffset"),
    )
    assert program.layout.dtype == np.dtype(">f8")
    assert program.layout.axes == (1, 0)
    assert program.step_nbytes((4, 6)) == (48, 48, 96, 192)


@pytest.mark.parametrize("name", ["json2", "msgpack2"])
def test_object_codecs_of_v2(name: str) -> None:
    objects = DataType("object", np.dtype(object))
    program = lower_chain_of(
        objects, (4,), f"numcodecs.{name}", ("numcodecs.zstd", {"level": 1})
    ).program
    assert program.steps == (Decompress("zstd"), HostOnly(f"numcodecs.{name}", decoded="|O"))


def test_categories_of_objects() -> None:
    objects = DataType("object", np.dtype(object))
    codec = ("numcodecs.categorize", {"labels": ["a"], "dtype": "|O", "astype": "|u1"})
    program = lower_chain_of(objects, (4,), codec, "numcodecs.lz4").program
    assert program.steps[0] == Decompress("lz4")
    assert isinstance(program.steps[1], HostOnly)
    assert program.steps[1].decoded == "|O"


@pytest.mark.parametrize(
    ("data_type", "codecs"),
    [
        ("int32", ["bytes"]),
        ("int32", [("bytes", {"endian": "middle"})]),
        ("int32", []),
        ("int32", ["zstd"]),
        ("int32", [("transpose", {"order": [0, 1]})]),
        ("int32", [LITTLE, ("transpose", {"order": [1, 0]})]),
        ("int32", [LITTLE, LITTLE]),
        ("int32", [("transpose", {"order": [0, 0]}), LITTLE]),
        ("int32", [("transpose", {"order": [0]}), LITTLE]),
        ("int32", [("transpose", {"order": "A"}), LITTLE]),
        ("int32", [("transpose", {}), LITTLE]),
        ("int32", ["vlen-utf8"]),
        ("string", [LITTLE]),
        ("string", ["bytes"]),
        ("int32", [LITTLE, ("gzip", {"level": "high"})]),
        ("int32", [LITTLE, ("blosc", {"cname": "brotli"})]),
        ("int32", [LITTLE, ("numcodecs.lzma", {"format": 7})]),
        ("int32", [LITTLE, ("numcodecs.lzma", {"format": 3})]),
        ("int32", [LITTLE, ("numcodecs.crc32", {"location": "middle"})]),
        ("int32", [LITTLE, ("numcodecs.shuffle", {"elementsize": "4"})]),
        ("int32", [("numcodecs.delta", {"dtype": "|O"}), LITTLE]),
        ("int32", [("numcodecs.delta", {"dtype": "nonsense"}), LITTLE]),
        ("int32", [LITTLE, ("numcodecs.vlen-array", {"dtype": "|O"})]),
        ("int32", [("numcodecs.fixedscaleoffset", {"scale": None, "offset": 0}), LITTLE]),
        ("int32", [("scale_offset", {"scale": 0}), LITTLE]),
        ("int32", [("scale_offset", {"scale": 1.5}), LITTLE]),
        ("uint8", [("scale_offset", {"offset": 256}), LITTLE]),
        ("int32", [("scale_offset", {"factor": 2}), LITTLE]),
        ("bool", [("scale_offset", {"scale": 2}), "bytes"]),
        ("int32", [("cast_value", {"data_type": "string"}), LITTLE]),
        ("int32", [("cast_value", {"data_type": "float32", "out_of_range": "wrap"}), LITTLE]),
        ("int32", [("cast_value", {"data_type": "int8", "rounding": "up"}), LITTLE]),
        ("int32", [("cast_value", {"data_type": "int8", "scalar_map": [1]}), LITTLE]),
        ("int32", [("packbits", {"first_bit": 5, "last_bit": 3})]),
        ("bool", [("packbits", {"last_bit": 1})]),
        ("string", ["packbits"]),
        ("int32", [("zfp", {"mode": "fixed_rate"})]),
        ("int32", [("zfp", {"mode": "fast"})]),
        ("int32", [("reshape", {"shape": [5]}), LITTLE]),
        ("int32", [("reshape", {"shape": [-1, -1]}), LITTLE]),
        ("int32", [("reshape", {"shape": [[1], [0]]}), LITTLE]),
        ("int32", [("reshape", {"shape": [4, [0]]}), LITTLE]),
        ("int32", [("bitround", {}), LITTLE]),
    ],
)
def test_malformed_chains(data_type: str, codecs: list[CodecLike]) -> None:
    with pytest.raises(MetadataError):
        lower_chain_of(data_type, (4, 6), *codecs)


@pytest.mark.parametrize("shape", [[24], [[0, 1]], [2, 12], [[0], 3, 2], [-1, 2], [4, [1]]])
def test_reshape_changes_no_bytes(shape: list[Any]) -> None:
    codec = ("reshape", {"shape": shape})
    assert lower_chain_of("int32", (4, 6), codec, LITTLE).program.steps == ()


def test_zfp_of_types_whose_mapping_is_not_settled_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="uint32"):
        lower_chain_of("uint32", (4,), ("zfp", {"mode": "reversible"}))


def test_rectilinear_grids_know_all_their_sizes() -> None:
    grid = RectilinearGrid(((3, 5), 4))
    lowered = lower_chain_of("int32", grid, ("transpose", {"order": [1, 0]}), LITTLE, "zstd")
    assert lowered.program.layout.axes == (1, 0)
    with pytest.raises(UnsupportedError, match="rectilinear"):
        lower_chain_of("int32", grid, ("reshape", {"shape": [-1]}), LITTLE)


def test_every_reason_is_told_at_once() -> None:
    with pytest.raises(UnsupportedError) as caught:
        lower_chain_of("int32", (4,), "one.unknown", LITTLE, "two.unknown", "numcodecs.pickle")
    assert [name in reason for name, reason in zip(
        ("one.unknown", "two.unknown", "pickle"), caught.value.reasons, strict=True
    )] == [True] * 3  # fmt: skip


def test_codecs_that_need_not_be_understood_are_skipped() -> None:
    metadata = make_metadata("int32", (4,), LITTLE, "zstd")
    ignorable = CodecMetadata("example.hint", {"x": 1}, must_understand=False)
    codecs = (ignorable, *metadata.codecs, ignorable)
    from dataclasses import replace  # noqa: PLC0415

    assert lower(replace(metadata, codecs=codecs)) == lower(metadata)


def test_equal_chains_make_equal_programs() -> None:
    first = lower_chain_of("int32", (4,), LITTLE, ("zstd", {"level": 1}))
    second = lower_chain_of("int32", (4,), LITTLE, ("zstd", {"level": 9, "checksum": False}))
    assert first == second
    assert hash(first.program.steps) == hash(second.program.steps)


def test_the_table_holds_every_codec_that_numcodecs_has() -> None:
    import numcodecs.registry  # noqa: PLC0415

    own = {
        name
        for name, codec in numcodecs.registry.codec_registry.items()
        if codec.__module__.startswith("numcodecs.")
    }
    assert {f"numcodecs.{name}" for name in own - {"pickle"}} <= set(CODECS)
