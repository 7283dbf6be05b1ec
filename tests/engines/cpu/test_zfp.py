"""zfp with and without its header, and what damage to it comes to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpuzarr.engines.cpu.zfp_streams import build_header
from gpuzarr.engines.step_error import StepError
from gpuzarr.program import HostOnly, Step, canonical_json
from tests.engines.cpu.programs import decode, decoder_of

zfpy = pytest.importorskip("zfpy")

MODES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"mode": "reversible"}, {}),
    ({"mode": "fixed_accuracy", "tolerance": 0.01}, {"tolerance": 0.01}),
    ({"mode": "fixed_accuracy", "tolerance": 0.0}, {"tolerance": 0.0}),
    ({"mode": "fixed_precision", "precision": 13}, {"precision": 13}),
    ({"mode": "fixed_rate", "rate": 16.0}, {"rate": 16}),
    ({"mode": "fixed_rate", "rate": 7.0}, {"rate": 7}),
]
SHAPES = [(1,), (37,), (9, 14), (5, 6, 7), (3, 5, 4, 6)]


def sample(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    smooth = np.sin(np.arange(count) / 9) * 1000
    return smooth.astype(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", ["<i4", "<i8", "<f4", "<f8"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("settings", "arguments"), MODES)
def test_streams(
    dtype: str, shape: tuple[int, ...], settings: dict[str, Any], arguments: dict[str, Any]
) -> None:
    if dtype[1] == "i" and "tolerance" in arguments:
        pytest.skip("zfp has no tolerance for integers")
    array = sample(dtype, shape)
    encoded = zfpy.compress_numpy(array, write_header=True, **arguments)
    expected = zfpy.decompress_numpy(encoded)
    headed: Step = HostOnly("numcodecs.zfpy", "{}", dtype, fixed_size=True)
    np.testing.assert_array_equal(decode(encoded, dtype, shape, headed), expected)

    bare = zfpy.compress_numpy(array, write_header=False, **arguments)
    step = HostOnly(
        "zfp", canonical_json({**settings, "shape": list(shape)}), dtype, fixed_size=True
    )
    np.testing.assert_array_equal(decode(bare, dtype, shape, step), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("settings", "arguments"), MODES)
def test_headers(
    shape: tuple[int, ...], settings: dict[str, Any], arguments: dict[str, Any]
) -> None:
    array = sample("<f8", shape)
    encoded = zfpy.compress_numpy(array, write_header=True, **arguments)
    header, bits = build_header("float64", list(shape), settings)
    stored = int.from_bytes(encoded[:32], "little") & ((1 << bits) - 1)
    if settings["mode"] == "fixed_rate":
        # zfpy aligns rates to words when it writes a header, so its own mode may differ.
        stored, header = stored & ((1 << 84) - 1), header & ((1 << 84) - 1)
    elif settings.get("tolerance") == 0:
        # zfpy uses the long form, as these are also the defaults of the expert mode.
        own, ours = zfpy.header(encoded[:32]), zfpy.header(header.to_bytes(32, "little"))
        assert own["config"]["expert"] == ours["config"]["expert"]
        return
    assert header == stored


@pytest.mark.parametrize("shape", SHAPES)
def test_expert_mode_has_a_header_of_half_bytes(shape: tuple[int, ...]) -> None:
    array = sample("<f8", shape)
    bare = zfpy.compress_numpy(array, write_header=False, precision=13)
    settings = {"mode": "expert", "minbits": 1, "maxbits": 16658, "maxprec": 13, "minexp": -1074}
    step = HostOnly(
        "zfp", canonical_json({**settings, "shape": list(shape)}), "<f8", fixed_size=True
    )
    expected = zfpy.decompress_numpy(zfpy.compress_numpy(array, precision=13))
    np.testing.assert_array_equal(decode(bare, "<f8", shape, step), expected)


def test_a_0d_chunk_is_one_value() -> None:
    bare = zfpy.compress_numpy(np.array([2.5]), write_header=False)
    step = HostOnly("zfp", canonical_json({"mode": "reversible", "shape": []}), "<f8")
    assert decode(bare, "<f8", (), step) == 2.5


def test_truncation_and_rubbish() -> None:
    array = sample("<f8", (9, 14))
    for arguments in ({"tolerance": 0.01}, {}, {"rate": 16}):
        encoded = zfpy.compress_numpy(array, write_header=True, **arguments)
        step = HostOnly("numcodecs.zfpy", "{}", "<f8", fixed_size=True)
        decoder = decoder_of("<f8", (9, 14), step)
        expected = zfpy.decompress_numpy(encoded)
        for length in range(len(encoded)):
            try:
                found = decoder.decode(memoryview(encoded[:length]))
            except StepError:
                continue
            # The end of the last word may be padding.
            np.testing.assert_array_equal(found, expected)
            assert length > len(encoded) - 8
        rng = np.random.default_rng(0)
        for _ in range(200):
            damaged = bytearray(encoded)
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            try:
                assert decoder.decode(memoryview(damaged)).shape == (9, 14)
            except StepError:
                continue


def test_other_types_and_shapes_are_errors() -> None:
    encoded = zfpy.compress_numpy(sample("<f8", (9, 14)))
    for dtype, shape in (("<f4", (9, 14)), ("<f8", (9, 13)), ("<f8", (9, 15)), ("<i8", (9, 14))):
        with pytest.raises(StepError):
            decode(encoded, dtype, shape, HostOnly("numcodecs.zfpy", "{}", dtype))
