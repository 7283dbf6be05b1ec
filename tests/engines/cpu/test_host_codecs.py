"""Objects, number compressors and codecs of numcodecs that have no step of their own."""

from __future__ import annotations

from typing import Any

import numcodecs
import numpy as np
import pytest

from gpuzarr.engines.cpu.decoder import unsupported
from gpuzarr.engines.step_error import StepError
from gpuzarr.program import (
    DecodeProgram,
    HostOnly,
    Layout,
    Reorder,
    canonical_json,
)
from tests.codecs.chains import LITTLE, lower_chain_of
from tests.engines.cpu.programs import decode, decoder_of


def objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


def test_texts() -> None:
    texts = objects("", "a", "b\u00e9", "\U0001f600" * 1000, "\x00", "end").reshape(2, 3)
    encoded = numcodecs.VLenUTF8().encode(texts)
    step = HostOnly("vlen-utf8", decoded="|O")
    assert decode(encoded, object, (2, 3), step).tolist() == texts.tolist()
    turned = numcodecs.VLenUTF8().encode(np.ascontiguousarray(texts.T))
    assert decode(turned, object, (2, 3), step, Reorder(8, (1, 0))).tolist() == texts.tolist()


def test_bytes() -> None:
    items = objects(b"", b"a", b"\x00\xff", b"x" * 70_000)
    encoded = numcodecs.VLenBytes().encode(items)
    step = HostOnly("vlen-bytes", decoded="|O")
    assert decode(encoded, object, (4,), step).tolist() == items.tolist()


def test_no_texts_at_all() -> None:
    encoded = numcodecs.VLenUTF8().encode(np.empty(0, object))
    assert decode(encoded, object, (0, 3), HostOnly("vlen-utf8", decoded="|O")).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["<i2", ">f4", "|u1", "<U3"])
def test_arrays_in_elements(dtype: str) -> None:
    items = objects(*(np.arange(n).astype(dtype) for n in (3, 0, 1)))
    encoded = numcodecs.VLenArray(dtype).encode(items)
    step = HostOnly("numcodecs.vlen-array", canonical_json({"dtype": dtype}), "|O")
    found = decode(encoded, object, (3,), step)
    for each, expected in zip(found, items, strict=True):
        assert each.dtype == expected.dtype
        np.testing.assert_array_equal(each, expected)


JSON_OBJECTS = [
    objects("a", None, 1, 2.5, *[True], {"x": [1]}),
    objects([1, 2], [3, 4]),
    objects([1], [], [2, 3]),
    objects("a", "b", "c", "d", "e", "f").reshape(2, 3),
    objects("one").reshape(()),
]


@pytest.mark.parametrize("array", JSON_OBJECTS, ids=str)
@pytest.mark.parametrize("name", ["json2", "msgpack2"])
def test_objects_as_text(array: np.ndarray, name: str) -> None:
    if name == "msgpack2":
        pytest.importorskip("msgpack")
        if array.ndim == 0:
            pytest.skip("numcodecs cannot pack these")
    codec = numcodecs.get_codec({"id": name})
    encoded = codec.encode(array)
    step = HostOnly(f"numcodecs.{name}", decoded="|O")
    found = decode(encoded, object, array.shape, step)
    assert found.tolist() == array.tolist()


def test_numbers_as_json() -> None:
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    encoded = numcodecs.JSON().encode(array)
    step = HostOnly("numcodecs.json2", decoded="<i4")
    np.testing.assert_array_equal(decode(encoded, "<i4", (2, 3), step), array)
    with pytest.raises(StepError):
        decode(encoded, "<i4", (2, 2), step)


@pytest.mark.parametrize("dtype", ["|O", "<U5"])
def test_categories(dtype: str) -> None:
    labels = ["cat", "dog", "mouse"]
    array = np.array(["dog", "cat", "bird", "mouse", ""], dtype)
    codec = numcodecs.Categorize(labels, dtype, "u2")
    settings = {"labels": labels, "dtype": dtype, "astype": "<u2"}
    step = HostOnly("numcodecs.categorize", canonical_json(settings), dtype)
    encoded = codec.encode(array)
    found = decode(encoded.tobytes(), dtype, (5,), step)
    np.testing.assert_array_equal(found, codec.decode(encoded))
    beyond = np.array([9, 65535, 0, 1, 2], "<u2")
    assert decode(beyond.tobytes(), dtype, (5,), step).tolist() == ["", "", "", "cat", "dog"]
    with pytest.raises(StepError):
        decode(encoded.tobytes()[:-1], dtype, (5,), step)


@pytest.mark.parametrize("dtype", ["<u2", "<i4", "<u8", "<f2", "<f4", "<f8", ">i4"])
def test_pcodec(dtype: str) -> None:
    pytest.importorskip("pcodec")
    array = (np.arange(5000) * 7 % 1000).astype(dtype)
    encoded = numcodecs.PCodec().encode(array.astype(array.dtype.newbyteorder("=")))
    step = HostOnly("numcodecs.pcodec", "{}", dtype, fixed_size=True)
    np.testing.assert_array_equal(decode(encoded, dtype, (50, 100), step), array.reshape(50, 100))
    decoder = decoder_of(dtype, (5000,), step)
    for length in (*range(40), len(encoded) // 2, len(encoded) - 1):
        with pytest.raises(StepError):
            decoder.decode(memoryview(encoded[:length]))
    for count in (4999, 5001):
        with pytest.raises(StepError):
            decode(encoded, dtype, (count,), step)


def test_any_codec_of_numcodecs() -> None:
    class Reverse(numcodecs.abc.Codec):  # type: ignore[misc]
        codec_id = "gpuzarr-test-reverse"

        def encode(self, buf: Any) -> bytes:
            return bytes(buf)[::-1]

        def decode(self, buf: Any, out: Any = None) -> bytes:
            assert out is None
            if bytes(buf[:1]) == b"!":
                raise MemoryError
            return bytes(buf)[::-1]

    numcodecs.register_codec(Reverse)
    array = np.arange(10, dtype="<i4")
    program = lower_chain_of("int32", (10,), LITTLE, "numcodecs.gpuzarr-test-reverse").program
    assert unsupported(program) == ()
    assert program.steps == (HostOnly("numcodecs.gpuzarr-test-reverse", "{}", "<i4"),)
    encoded = array.tobytes()[::-1]
    np.testing.assert_array_equal(decode(encoded, "<i4", (10,), *program.steps), array)
    with pytest.raises(StepError):
        decode(encoded, "<i4", (9,), *program.steps)
    with pytest.raises(StepError, match="memory"):
        decode(b"!" * 40, "<i4", (10,), *program.steps)


def test_missing_packages_are_told_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuzarr.engines.cpu.host_codecs.find_spec", lambda _: None)
    step = HostOnly("numcodecs.pcodec", "{}", "<i4")
    program = DecodeProgram((step,), Layout(np.dtype("<i4"), (0,)))
    assert unsupported(program) == (
        "codec 'numcodecs.pcodec' needs the package pcodec: pip install pcodec",
    )
