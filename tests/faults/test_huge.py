"""Arrays of any size: small selections cost what those of a small array do, others are refused.

Where a full read is refused, it is at once: nothing was asked of the store, and hardly any memory
was taken.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.cli import main
from tests.arrays import CountingStore, encoded, v3_metadata
from tests.faults.cases import engine
from tests.faults.programs import write_files

if TYPE_CHECKING:
    from collections.abc import Callable

FILL = 7
MUCH_NBYTES = 1 << 21
"""More memory than a small selection takes, or the refusal of a large one."""


@dataclass(frozen=True)
class Huge:
    """An array of which no chunk is stored."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shard: tuple[int, ...] | None = None
    data_type: str = "uint8"
    v2: bool = False

    def stored(self) -> dict[str, bytes]:
        """Its metadata."""
        if self.v2:
            document = {
                "zarr_format": 2,
                "shape": self.shape,
                "chunks": self.chunks,
                "dtype": "|u1",
                "compressor": None,
                "fill_value": FILL,
                "order": "C",
                "filters": None,
            }
            return {".zarray": encoded(document)}
        codecs: list[Any] = ["bytes"]
        if self.shard is not None:
            configuration = {
                "chunk_shape": self.chunks,
                "codecs": v3_metadata((), ())["codecs"],
                "index_codecs": v3_metadata((), ())["codecs"],
            }
            codecs = [{"name": "sharding_indexed", "configuration": configuration}]
        grid = self.shard or self.chunks
        return {
            "zarr.json": encoded(
                v3_metadata(
                    self.shape, grid, data_type=self.data_type, codecs=codecs, fill_value=FILL
                )
            )
        }

    def small(self) -> Huge:
        """An array of the same chunks, of which there are few."""
        unit = self.shard or self.chunks
        shape = tuple(min(n, 8 * c) for n, c in zip(self.shape, unit, strict=True))
        return Huge(shape, self.chunks, self.shard, self.data_type, self.v2)


HUGE = {
    "1 TiB": Huge((1 << 40,), (1 << 16,)),
    "1 EiB": Huge((1 << 30, 1 << 30), (1 << 10, 1 << 10)),
    "1 EiB, v2": Huge((1 << 20, 1 << 20, 1 << 20), (64, 64, 64), v2=True),
    "10^12 chunks": Huge((10**6, 10**6), (1, 1)),
    "10^12 chunks in a row": Huge((10**12,), (1,)),
    "10^12 chunks of 3 dimensions": Huge((10**6, 10**6, 100), (1, 10, 10), data_type="int32"),
    "10^12 chunks in shards": Huge((1 << 30, 1 << 30), (1 << 10, 1 << 10), (1 << 15, 1 << 14)),
    "2^62": Huge((1 << 62,), (1 << 12,)),
}
cases = pytest.mark.parametrize("case", HUGE.values(), ids=HUGE)


def small_ways(ndim: int) -> dict[str, Callable[[gpuzarr.Array], Any]]:
    """Reads of a few elements, which huge and small arrays have."""
    point, box = (3,) * ndim, (slice(2, 7),) * ndim
    lists = tuple([0, 5, 3] for _ in range(ndim))
    return {
        "[one]": lambda a: a[point],
        "[box]": lambda a: a[box],
        "[steps]": lambda a: a[(slice(7, 1, -2),) * ndim],
        "[list]": lambda a: a[lists],
        "oindex": lambda a: a.oindex[lists],
        "vindex": lambda a: a.vindex[lists],
        "blocks": lambda a: a.blocks[(slice(0, 0),) * ndim],
        "read": lambda a: a.read(box, dtype="f4"),
        "read_batch": lambda a: gpuzarr.read_batch([(a, box), (a, (slice(0, 5),) * ndim)]),
        "empty": lambda a: a[(slice(0, 0), *box[1:])],
        "explain": lambda a: a.explain(box).needed_nbytes * np.ones(1),
        "info": lambda a: np.ones(len(str(a.info)) and 1),
    }


def calls(work: Callable[[], Any]) -> int:
    """How many functions are called."""
    count = 0

    def hook(*_: Any) -> None:
        nonlocal count
        count += 1

    sys.setprofile(hook)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def peak(work: Callable[[], Any]) -> int:
    """The most memory that is held at a time, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_of_pages(work: Callable[[], Any]) -> int:
    """The most memory that the process takes from the system for it, in bytes; Linux tells.

    `tracemalloc` counts what NumPy asked for in vain.
    """
    if sys.platform != "linux":
        work()
        return 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = _status("VmHWM")
    work()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


@cases
@pytest.mark.parametrize("name", ["cpu", "few", "cuda"])
def test_small_selections_cost_what_those_of_a_small_array_do(name: str, case: Huge) -> None:
    """Requests, calls, and memory."""
    with engine(name) as opened:
        stores = [CountingStore(one.stored()) for one in (case, case.small())]
        arrays = [opened(store) for store in stores]
        for what, way in small_ways(len(case.shape)).items():
            costs = []
            for store, array in zip(stores, arrays, strict=True):
                way(array)  # what is derived once
                store.taken()
                found = np.asarray(way(array))
                if what not in {"explain", "info"}:
                    assert (found == FILL).all()
                asked = len(store.taken())
                costs.append((asked, calls(partial(way, array))))
                assert peak(partial(way, array)) < MUCH_NBYTES, what
            assert costs[0][0] == costs[1][0], what
            assert costs[0][1] <= 1.2 * costs[1][1] + 60, what


def large_ways(array: gpuzarr.Array) -> dict[str, Callable[[], Any]]:
    """Reads of everything, or of much more than memory holds."""
    ndim = array.ndim
    half = tuple(slice(0, n - n // 4) for n in array.shape)
    long = np.broadcast_to(np.int64(0), (1 << 45,))
    rows = np.broadcast_to(np.int64(1), (1 << 20, 1))
    columns = np.broadcast_to(np.int64(1), (1, 1 << 20))
    key = (long, *(0,) * (ndim - 1))
    return {
        "[...]": lambda: array[...],
        "[half]": lambda: array[half],
        "[backwards]": lambda: array[(slice(None, None, -1),) * ndim],
        "[list]": lambda: array[key],
        "read": lambda: array.read(dtype="f8"),
        "read_async": lambda: array.read_async().result(),
        "oindex": lambda: array.oindex[key],
        "vindex": lambda: array.vindex[(long,) * ndim],
        "vindex, crossed": lambda: (
            array.vindex[(rows, *(columns,) * (ndim - 1))]
            if ndim > 1
            else array.vindex[np.broadcast_to(rows, (1 << 20, 1 << 23))]
        ),
        "blocks": lambda: array.blocks[...],
        "read_batch": lambda: gpuzarr.read_batch([(array, ...), (array, half)]),
        "read_batch, stacked": lambda: gpuzarr.read_batch([(array, half)] * 3),
        "explain": array.explain,
        "Loader": lambda: next(iter(gpuzarr.Loader(array, crop=array.shape, batch_size=1))),
        "asarray": lambda: np.asarray(array),
    }


@cases
@pytest.mark.parametrize("name", ["cpu, threads", "few", "cuda"])
def test_full_reads_are_refused_at_once(name: str, case: Huge) -> None:
    with engine(name) as opened:
        store = CountingStore(case.stored())
        array = opened(store)
        array[(0,) * len(case.shape)]
        store.taken()
        for what, way in large_ways(array).items():
            told: list[Exception] = []

            def work(way: Callable[[], Any] = way, told: list[Exception] = told) -> None:
                with pytest.raises(gpuzarr.MemoryLimitError) as raised:
                    way()
                told.append(raised.value)

            try:
                used = peak_of_pages(work)
            except BaseException as error:
                error.add_note(f"in {what}")
                raise
            assert used < 16 * MUCH_NBYTES, what  # lists of the caller, copied
            assert str(told[0]), what
            assert told[0].store == store.name, what  # type: ignore[attr-defined]
            assert not store.taken(), what


def _all_fill(loader: gpuzarr.Loader) -> None:
    for batch in loader:
        assert (batch == FILL).all()


@cases
def test_a_loader_of_crops_costs_what_one_of_a_small_array_does(case: Huge) -> None:
    crop = tuple(min(n, 4) for n in case.shape)
    costs = []
    for one in (case, case.small()):
        store = CountingStore(one.stored())
        array = gpuzarr.open_array(store, threads=1)
        asked = []
        options: dict[str, Any]
        for options in (
            {"windows": "random", "samples_per_epoch": 6, "crop": crop},
            {"windows": [tuple(slice(0, c) for c in crop)] * 6},
        ):
            loader = gpuzarr.Loader(array, batch_size=2, prefetch=0, **options)
            store.taken()
            assert peak(partial(_all_fill, loader)) < MUCH_NBYTES
            asked.append(len(store.taken()))
        costs.append(asked[1])
    assert costs[0] == costs[1]


@cases
@pytest.mark.parametrize("command", ["info", "tree", "explain", "read"])
def test_commands_answer_or_refuse_at_once(
    command: str, case: Huge, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "a", case.stored())
    group = tmp_path if command == "tree" else tmp_path / "a"
    if command == "tree":
        kind = "zarr.json"
        document: dict[str, Any] = {"zarr_format": 3, "node_type": "group"}
        if case.v2:
            kind, document = ".zgroup", {"zarr_format": 2}
        (tmp_path / kind).write_text(json.dumps(document))
    statuses = []

    def run() -> None:
        more = ["-o", str(tmp_path / "out.npy")] if command == "read" else []
        statuses.append(main([command, str(group), *more]))

    assert peak(run) < 4 * MUCH_NBYTES
    said = capsys.readouterr()
    refused = command in {"explain", "read"}
    assert statuses == [2 if refused else 0], said.err
    assert not (tmp_path / "out.npy").exists()
    assert len(said.err if refused else said.out) > 20
    small = tuple("0:5" for _ in case.shape)
    if refused:
        more = ["-o", str(tmp_path / "out.npy")] if command == "read" else []
        assert main([command, str(group), "--select", ", ".join(small), *more]) == 0


@pytest.mark.parametrize("opened", ["cpu", "cuda"])
def test_declared_sizes_are_checked_before_memory_is_taken(opened: str) -> None:
    """Chunks and shards that the metadata make huge, with little in the store."""
    cases = {
        "chunk": Huge((1 << 50,), (1 << 50,)),
        "chunk, cut": Huge((100,), (1 << 50,)),
        "shard": Huge((1 << 50,), (1 << 45,), (1 << 50,)),
        "index": Huge((1 << 50,), (1,), (1 << 45,)),
        "index, cut": Huge((1 << 10,), (1,), (1 << 40,)),
    }
    with engine(opened) as make:
        for what, case in cases.items():
            array = make({**case.stored(), "c/0": b"only a few bytes are here"})
            for read in (
                lambda array=array: array[:9],
                lambda array=array: array.oindex[[1, 2]],
                lambda array=array: gpuzarr.read_batch([(array, slice(0, 3)), (array, 7)]),
            ):
                errors: list[BaseException] = []

                def work(read: Any = read, errors: list[BaseException] = errors) -> None:
                    with pytest.raises(gpuzarr.GpuzarrError) as raised:
                        read()
                    errors.append(raised.value)

                assert peak_of_pages(work) < 8 * MUCH_NBYTES, what
                assert isinstance(
                    errors[0],
                    (gpuzarr.ChunkError, gpuzarr.MemoryLimitError, gpuzarr.MetadataError),
                ), repr(errors[0])
