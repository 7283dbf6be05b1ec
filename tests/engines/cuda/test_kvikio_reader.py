"""Reading by kvikio: the arithmetic of spans, and whole reads in a process with a stub driver."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.engines.cuda.capability import why_not_direct
from gpuzarr.engines.cuda.kvikio_reader import PAGE, lay_out_spans
from gpuzarr.program import DecodeProgram, Decompress, HostOnly, Layout, Unshuffle, VerifyChecksum
from tests.engines.cuda import stub_driver

ranges = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 60_000), st.integers(0, 20_000)),
    min_size=1,
    max_size=20,
)


@given(ranges)
def test_spans_hold_every_range_in_whole_pages(asked: list[tuple[int, int, int]]) -> None:
    file, offset, nbytes = (np.array(column, np.int64) for column in zip(*asked, strict=True))
    size = np.array([70_001 + 5000 * f for f in file.tolist()], np.int64)
    nbytes = np.minimum(nbytes, size - offset)
    spans = lay_out_spans(file, offset, nbytes, size)
    assert not (spans.offset % PAGE).any()
    assert not (spans.place % PAGE).any()
    contents = [np.random.default_rng(f).integers(0, 256, 90_000, np.uint8) for f in range(4)]
    memory = np.zeros(spans.total, np.uint8)
    used = np.zeros(spans.total, bool)
    limits = {f: 70_001 + 5000 * f for f in range(4)}
    columns = (spans.file, spans.offset, spans.nbytes, spans.place)
    for f, start, length, place in zip(*(column.tolist() for column in columns), strict=True):
        assert length % PAGE == 0 or start + length == limits[f]
        assert not used[place : place + length].any(), "spans lie over one another"
        used[place : place + length] = True
        memory[place : place + length] = contents[f][start : start + length]
    for f, start, length, begin in zip(file, offset, nbytes, spans.begin, strict=True):
        assert (memory[begin : begin + length] == contents[f][start : start + length]).all()
    for f in set(file.tolist()):  # nothing is read twice
        here = spans.file == f
        order = np.argsort(spans.offset[here])
        ends = (spans.offset + spans.nbytes)[here][order]
        assert (spans.offset[here][order][1:] >= ends[:-1]).all()


def program(*steps: object) -> DecodeProgram:
    return DecodeProgram(steps, Layout(np.dtype("<f4"), (0,)))  # type: ignore[arg-type]


def test_programs_whose_bytes_the_host_need_not_see() -> None:
    for direct in (
        program(),
        program(Decompress("blosc")),
        program(Decompress("blosc"), Unshuffle(4)),
        program(VerifyChecksum("crc32c")),
    ):
        assert why_not_direct(direct) is None
    for other in (
        program(Decompress("zstd")),
        program(VerifyChecksum("crc32c"), Decompress("blosc")),
        program(Decompress("zstd"), Decompress("blosc")),
        program(HostOnly("numcodecs.base64")),
    ):
        assert why_not_direct(other) is not None


def run(name: str, folder: Path) -> str:
    """A function of `kvikio_reads`, in a process with the stub driver."""
    if find_spec("kvikio") is None:
        if os.environ.get("GPUZARR_REQUIRE_GPU_LIBRARIES") == "1":
            pytest.fail("kvikio is not installed")
        pytest.skip("kvikio is not installed")
    driver = folder / "driver"
    driver.mkdir()
    environment = {**os.environ, "LD_LIBRARY_PATH": str(stub_driver.build(driver))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engines.cuda.kvikio_reads", name, str(folder)],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize(
    "name",
    [
        *("whole_arrays", "shards", "missing_and_damaged", "refused", "changing_files", "memory"),
        *("other_stores", "several_stores", "overlap", "orders", "far_shards", "far_faults"),
        "long_reads",
    ],
)
def test_reads(name: str, tmp_path: Path) -> None:
    assert run(name, tmp_path).strip().endswith("ok")
