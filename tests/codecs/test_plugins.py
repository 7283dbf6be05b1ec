"""Codecs of other packages, by entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gpuzarr.engines.cpu.decoder import ChunkDecoder, unsupported
from gpuzarr.engines.step_error import StepError
from gpuzarr.errors import UnsupportedError
from gpuzarr.program import Decompress, HostOnly, Step, Unshuffle
from tests.codecs.chains import LITTLE, lower_chain_of

if TYPE_CHECKING:
    from collections.abc import Mapping


class Flip:
    """Stores every bit flipped."""

    def decode(
        self, encoded: memoryview, configuration: Mapping[str, Any], nbytes: int | None
    ) -> bytes:
        assert nbytes == 16
        if configuration.get("fail"):
            raise OSError("broken")
        return (~np.frombuffer(encoded, np.uint8)).tobytes()


class ShuffledZstd:
    """Two known steps under one name."""

    def lower(self, configuration: Mapping[str, Any]) -> tuple[Step, ...]:
        return Decompress("zstd"), Unshuffle(int(configuration["size"]))


flip = Flip()
shuffled = ShuffledZstd()


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that packages with these entry points are installed."""
    points = (
        EntryPoint("example.flip", f"{__name__}:flip", "gpuzarr.codecs"),
        EntryPoint("example.shuffled", f"{__name__}:shuffled", "gpuzarr.codecs"),
        EntryPoint("example.zarr_only", f"{__name__}:flip", "zarr.codecs"),
        EntryPoint("example_numcodec", f"{__name__}:flip", "numcodecs.codecs"),
    )

    def entry_points(*, group: str, name: str) -> tuple[EntryPoint, ...]:
        return tuple(point for point in points if (point.group, point.name) == (group, name))

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def test_a_package_decodes_its_codec() -> None:
    program = lower_chain_of("int32", (4,), LITTLE, "example.flip").program
    assert program.steps == (HostOnly("example.flip", "{}", "<i4"),)
    assert unsupported(program) == ()
    array = np.arange(4, dtype="<i4")
    stored = memoryview((~array).tobytes())
    np.testing.assert_array_equal(ChunkDecoder(program, (4,)).decode(stored), array)
    with pytest.raises(StepError):
        ChunkDecoder(program, (4,)).decode(stored[:8])


def test_what_a_plugin_raises_is_damage() -> None:
    program = lower_chain_of("int32", (4,), LITTLE, ("example.flip", {"fail": True})).program
    with pytest.raises(StepError, match="broken"):
        ChunkDecoder(program, (4,)).decode(memoryview(bytes(16)))


def test_a_package_lowers_its_codec() -> None:
    program = lower_chain_of("int32", (4,), LITTLE, ("example.shuffled", {"size": 4})).program
    assert program.steps == (Decompress("zstd"), Unshuffle(4))


def test_an_unknown_codec_may_be_the_one_that_makes_bytes() -> None:
    program = lower_chain_of("int32", (4,), "example.flip", "zstd").program
    assert program.steps == (Decompress("zstd"), HostOnly("example.flip", "{}", "<i4"))


def test_codecs_that_numcodecs_finds_need_nothing_else() -> None:
    program = lower_chain_of("int32", (4,), LITTLE, "numcodecs.example_numcodec").program
    assert program.steps == (HostOnly("numcodecs.example_numcodec", "{}", "<i4"),)


def test_the_reason_names_who_has_the_codec() -> None:
    with pytest.raises(UnsupportedError, match=r"group 'zarr\.codecs'.*'gpuzarr\.codecs'"):
        lower_chain_of("int32", (4,), LITTLE, "example.zarr_only")
    with pytest.raises(UnsupportedError, match="entry point"):
        lower_chain_of("int32", (4,), LITTLE, "nobody.knows")


def test_pickle_is_refused_whatever_is_installed() -> None:
    with pytest.raises(UnsupportedError, match="refused"):
        lower_chain_of("int32", (4,), LITTLE, "numcodecs.pickle")
