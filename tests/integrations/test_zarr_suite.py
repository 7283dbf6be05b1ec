"""zarr-python's own tests, with gpuzarr's codec pipeline in place of its own.

They come with the source distribution of the zarr-python that is installed, which pip downloads
once. Where there is no network, GPUZARR_OFFLINE=1 leaves this out.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import zarr

import gpuzarr
from tests import effort

pytest.importorskip("pytest_asyncio")

PARTS = (
    ("test_array.py",),
    ("test_codecs",),
    ("test_indexing.py",),
    ("test_codec_pipeline.py", "test_unified_chunk_grid.py", "test_v2.py"),
)
"""Those about reading; a version of zarr-python may not have all of the last."""

SHARDS = "test_codecs/test_sharding"

LEFT_OUT = {
    "test_codecs/test_scale_offset.py::test_integer_decode_rejects_non_exact_division": (
        "wants a ValueError; gpuzarr's is a DecodeError, which names the chunk"
    ),
    "test_codecs/test_scale_offset.py::test_decode_rejects_integer_overflow_on_offset_add": (
        "the same"
    ),
    "test_codecs/test_sharding.py::test_sharding_partial_shard_read__index_chunk_slice_fails": (
        "changes zarr-python's own reader of shard indexes, which is not asked"
    ),
    **dict.fromkeys(
        (
            f"{SHARDS}.py::test_sharding_duplicate_read_indexes",
            f"{SHARDS}.py::test_sharding_multiple_chunks_partial_shard_read",
            f"{SHARDS}.py::test_sharding_partial_shard_read__chunk_load_fails",
            f"{SHARDS}_unit.py::test_load_partial_shard_forwards_global_config_to_get_ranges",
            f"{SHARDS}_unit.py::test_load_partial_shard_per_array_config_overrides_global",
            f"{SHARDS}_unit.py::test_load_partial_shard_uses_config_defaults",
        ),
        "want chunks of a shard to be asked for by `get_ranges` of a mock, and its index alone by"
        " `get`; gpuzarr asks for both by `get`, once each",
    ),
}
"""Tests, and why they cannot pass."""

ONE_IN = 5
"""Parameters of a test that are taken, unless all is asked for."""

SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
xfail_strict = true
markers =
    gpu: needs a GPU
    slow_hypothesis: takes long
"""

ENTRY_POINT = """
[zarr.codec_pipeline]
gpuzarr = gpuzarr.integrations.zarr:GpuzarrCodecPipeline
"""

COUNTING = """
import json
from collections import Counter
from pathlib import Path

from effort import FULL, sample
from gpuzarr.integrations.zarr import ArrayReader, Plan

counts = Counter()


def counted(kind, name):
    method = getattr(kind, name)

    def call(self, *arguments):
        counts[name] += 1
        return method(self, *arguments)

    setattr(kind, name, call)


counted(Plan, "run")
counted(ArrayReader, "refuse")


def pytest_collection_modifyitems(items):
    if not FULL:
        taken = sample(items, lambda alike: -(-len(alike) // ONE_IN))
        items[:] = [item for item in items if item in taken]


def pytest_sessionfinish():
    Path("counts.json").write_text(json.dumps(counts))
"""
"""A plugin that counts what was read by gpuzarr, and what it refused; and takes some parameters."""


@pytest.fixture
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The source distribution, which is downloaded once."""
    cache = request.config.cache
    assert cache is not None
    found = cache.mkdir("zarr-suite") / f"zarr-{zarr.__version__}.tar.gz"
    if not found.exists():
        if os.environ.get("GPUZARR_OFFLINE") == "1":
            pytest.skip("zarr-python's tests are not there, and GPUZARR_OFFLINE=1")
        choices = ["--no-deps", "--no-binary", "zarr", "--dest", str(tmp_path)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", *choices]
        subprocess.run([*command, f"zarr=={zarr.__version__}"], check=True, timeout=120)
        beside = found.with_name(f"{tmp_path.name}-{os.getpid()}")
        shutil.copy(tmp_path / found.name, beside)
        beside.replace(found)
    return found


@pytest.fixture
def suite(archive: Path, tmp_path: Path) -> Path:
    """The tests, unpacked, with the pipeline made known to zarr-python."""
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    unpacked = tmp_path / f"zarr-{zarr.__version__}"
    (unpacked / "pytest.ini").write_text(SETTINGS)
    (unpacked / "counting.py").write_text(COUNTING.replace("ONE_IN", str(ONE_IN)))
    shutil.copy(effort.__file__, unpacked)
    about = unpacked / "door-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: door\nVersion: 1\n")
    (about / "entry_points.txt").write_text(ENTRY_POINT)
    return unpacked


@pytest.mark.long
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part[0])
def test_zarrs_own_tests_pass(part: tuple[str, ...], suite: Path) -> None:
    files = [f"tests/{file}" for file in part if (suite / "tests" / file).exists()]
    assert files
    without = [f"--deselect=tests/{name}" for name in LEFT_OUT]
    package = str(Path(gpuzarr.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "counting", "-W", "ignore", *without, *files],
        cwd=suite,
        env={
            **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
            "PYTHONPATH": os.pathsep.join([str(suite), package]),
            "ZARR_CODEC_PIPELINE__PATH": "gpuzarr.integrations.zarr.GpuzarrCodecPipeline",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    counts = json.loads((suite / "counts.json").read_text())
    assert counts.get("run", 0) > (20 if effort.FULL else 10) * counts.get("refuse", 0)
