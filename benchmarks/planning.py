"""What planning a read costs: tables of columns against one frozen dataclass for each chunk.

Both plan the same selections of 100,000 chunks, hops 4 to 7 of gpuzarr/DESIGN.md: from the key that
a user types to batches of reads for the store. The columns are gpuzarr's own code. The objects are
written as well as plain Python allows: what depends on one axis only is computed once an axis,
`itertools.product` walks the chunks, and a chunk costs one key, a few tuples and one frozen,
slotted dataclass.

Both sides run in turn in one process; what is measured is the CPU time of all its threads. The
ratio is the median of the ratios of each round.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from report import conditions, print_table, write_json

from gpuzarr.codecs.lower import lower
from gpuzarr.engines.cpu.engine import CpuEngine
from gpuzarr.engines.recording import RecordingSession
from gpuzarr.metadata.v3 import parse_array
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.selection import normalize_selection
from gpuzarr.read import EngineShare, Part, read_share
from gpuzarr.source import ArraySource
from gpuzarr.stores.memory import MappingStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from gpuzarr.plan.batches import Batch, BatchLimits
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Pending, Store

WHOLE = -1
ITEM_NBYTES = 4
STORED_NBYTES = 1000
"""Encoded bytes of each chunk of the sharded array."""


@dataclass(frozen=True)
class Case:
    """An array, and what is read of it."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    key: tuple[slice, ...]


CASES = (
    Case(
        "unsharded, 64 KiB chunks",
        (1600, 1600, 1600),
        (32, 32, 16),
        None,
        (slice(3, 1277), slice(5, -5), slice(0, 800)),
    ),
    Case(
        "sharded, 64 KiB chunks",
        (1280, 1600, 800),
        (32, 32, 16),
        (320, 320, 160),
        (slice(3, -3), slice(5, -5), slice(7, -7)),
    ),
    Case(
        "unsharded, 4 MiB chunks",
        (6400, 6400, 2560),
        (128, 128, 64),
        None,
        (slice(3, -3), slice(5, -5), slice(7, -7)),
    ),
)


# ------------------------------------------------------------------------------ in columns


def make_source(case: Case) -> ArraySource:
    """The array of a case, of which nothing is stored but shard indexes."""
    codecs: list[Any] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    store: dict[str, bytes] = {}
    if case.shards is not None:
        counts = [s // c for s, c in zip(case.shards, case.chunks, strict=True)]
        inner = [*codecs, {"name": "zstd", "configuration": {"level": 1, "checksum": False}}]
        sharding = {"chunk_shape": case.chunks, "codecs": inner, "index_codecs": codecs}
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        entries = np.empty((prod(counts), 2), "<u8")
        entries[:, 0] = np.arange(prod(counts)) * STORED_NBYTES
        entries[:, 1] = STORED_NBYTES
        shards = [range(-(-n // s)) for n, s in zip(case.shape, case.shards, strict=True)]
        store = {"/".join(["c", *map(str, shard)]): entries.tobytes() for shard in product(*shards)}
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(case.shape),
        "data_type": "float32",
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(case.shards or case.chunks)},
        },
        "chunk_key_encoding": {"name": "default"},
        "codecs": codecs,
        "fill_value": 0,
    }
    metadata = parse_array(document)
    return ArraySource.prepare(metadata, lower(metadata), MappingStore(store), "", CpuEngine())


def plan_columns(source: ArraySource, key: tuple[slice, ...]) -> tuple[int, int]:
    """Plan with gpuzarr; gives the number of chunks and of batches."""
    selection = normalize_selection(key, source.metadata.shape)
    plan = plan_chunks(selection, source.chunks, ITEM_NBYTES)
    session = CountingSession(())
    read_share(EngineShare(source.engine, (), (Part((source,), plan),)), session)
    return session.nchunks, session.nbatches


class CountingSession(RecordingSession):
    """A session that takes batches and does nothing with them."""

    nchunks = 0
    nbatches = 0

    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Pending:
        """Count the batch."""
        del program
        self.nchunks += len(batch.chunks)
        self.nbatches += 1
        return store.start_reads((), (), ())

    def decode(self, program: DecodeProgram, batch: Batch, staging: Pending) -> None:
        """Do nothing."""


# ------------------------------------------------------------------------- as one object each


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """One chunk of a read."""

    key: str
    offset: int
    nbytes: int
    coords: tuple[int, ...]
    shape: tuple[int, ...]
    decoded_nbytes: int
    chunk_slices: tuple[slice, ...]
    out_slices: tuple[slice, ...]


def axis_pieces(key: slice, length: int, size: int) -> list[tuple[int, int, slice, slice]]:
    """For each chunk along an axis: its number, size, the slice of it, the slice of the output."""
    start, stop, _ = key.indices(length)
    pieces = []
    for number in range(start // size, -(-stop // size)):
        begin = number * size
        low, high = max(start, begin), min(stop, begin + size)
        inside, outside = slice(low - begin, high - begin), slice(low - start, high - start)
        pieces.append((number, size, inside, outside))
    return pieces


def plan_whole(case: Case) -> Iterator[PlannedChunk]:
    """The chunks of an unsharded array."""
    axes = map(axis_pieces, case.key, case.shape, case.chunks)
    for pieces in product(*axes):
        coords, shape, inside, outside = zip(*pieces, strict=True)
        key = "c/" + "/".join(map(str, coords))
        decoded = prod(shape) * ITEM_NBYTES
        yield PlannedChunk(key, 0, WHOLE, coords, shape, decoded, inside, outside)


def plan_sharded(
    case: Case, shards: tuple[int, ...], index_of: Callable[[str], list[list[int]]]
) -> Iterator[PlannedChunk]:
    """The chunks of a sharded array, found in the shards' indexes, in the order of the output."""
    counts = [s // c for s, c in zip(shards, case.chunks, strict=True)]
    known: dict[tuple[int, ...], tuple[str, list[list[int]]]] = {}
    axes = []
    inner = prod(counts)
    for key, length, size, count in zip(case.key, case.shape, case.chunks, counts, strict=True):
        inner //= count
        axes.append(
            [
                (*piece, piece[0] // count, piece[0] % count * inner)
                for piece in axis_pieces(key, length, size)
            ]
        )
    for pieces in product(*axes):
        coords, shape, inside, outside, shard, rows = zip(*pieces, strict=True)
        found = known.get(shard)
        if found is None:
            key_text = "c/" + "/".join(map(str, shard))
            found = known[shard] = key_text, index_of(key_text)
        key_text, index = found
        offset, nbytes = index[sum(rows)]
        decoded = prod(shape) * ITEM_NBYTES
        yield PlannedChunk(key_text, offset, nbytes, coords, shape, decoded, inside, outside)


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """Neighbouring chunks of one object, read at once."""

    key: str
    offset: int
    nbytes: int
    chunks: list[PlannedChunk]


def batch_objects(
    chunks: Iterable[PlannedChunk], limits: BatchLimits
) -> Iterator[list[PlannedRequest]]:
    """Cut chunks into batches of bounded size, with neighbours in one request."""
    objects: dict[str, list[PlannedChunk]] = defaultdict(list)
    for chunk in chunks:
        objects[chunk.key].append(chunk)
    batch: list[PlannedRequest] = []
    work = 0
    for key, members in objects.items():
        if len(members) > 1:
            members.sort(key=lambda chunk: chunk.offset)
        together: list[PlannedChunk] = []
        begin = end = 0
        for chunk in members:
            size = chunk.decoded_nbytes + max(chunk.nbytes, 0)
            full = work + size > limits.nbytes and work
            if together and (full or chunk.offset > end + limits.gap_nbytes):
                batch.append(PlannedRequest(key, begin, end - begin, together))
                together = []
            if full:
                if batch:
                    yield batch
                batch, work = [], 0
            if not together:
                begin = chunk.offset
            together.append(chunk)
            end = chunk.offset + chunk.nbytes
            work += size
        nbytes = WHOLE if together[0].nbytes == WHOLE else end - begin
        batch.append(PlannedRequest(key, begin, nbytes, together))
    if batch:
        yield batch


def plan_objects(source: ArraySource, case: Case) -> tuple[int, int]:
    """Plan with one object for each chunk; gives the number of chunks and of batches."""

    def index_of(key: str) -> list[list[int]]:
        blob = source.store.read(key)
        if blob is None:
            raise KeyError(key)
        entries: list[list[int]] = np.frombuffer(blob.data, "<u8").reshape(-1, 2).tolist()
        return entries

    chunks = plan_whole(case)
    if case.shards is not None:
        chunks = plan_sharded(case, case.shards, index_of)
    nchunks = nbatches = 0
    for batch in batch_objects(chunks, source.engine.limits_for(source.codecs.program)):
        nchunks += sum(len(request.chunks) for request in batch)
        nbatches += 1
    return nchunks, nbatches


# ------------------------------------------------------------------------------- the clock


def seconds(work: Callable[[], tuple[int, int]]) -> tuple[float, tuple[int, int]]:
    """CPU time of one call, without the collector's rounds, of which objects cause more."""
    gc.collect()
    gc.disable()
    begin = time.process_time()
    result = work()
    taken = time.process_time() - begin
    gc.enable()
    return taken, result


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Time both ways in turn."""
    source = make_source(case)
    ways: tuple[Callable[[], tuple[int, int]], ...] = (
        lambda: plan_columns(source, case.key),
        lambda: plan_objects(source, case),
    )
    times: list[list[float]] = [[], []]
    counts: list[Sequence[int]] = [(), ()]
    for number in range(rounds + 1):
        for way in (0, 1) if number % 2 else (1, 0):
            taken, counts[way] = seconds(ways[way])
            if number:  # the first round is not counted
                times[way].append(taken)
    if counts[0][0] != counts[1][0]:
        raise AssertionError(f"the two ways plan {counts[0][0]} and {counts[1][0]} chunks")
    ratios = [objects / columns for columns, objects in zip(*times, strict=True)]
    return {
        "case": case.name,
        "chunks": counts[0][0],
        "batches": counts[0][1],
        "columns_ms": 1e3 * statistics.median(times[0]),
        "objects_ms": 1e3 * statistics.median(times[1]),
        "ratio": statistics.median(ratios),
        "ratios": sorted(ratios),
    }


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds of each case")
    parser.add_argument("--json", help="also write the result to this file")
    arguments = parser.parse_args()
    results = [measure(case, arguments.rounds) for case in CASES]
    print_table(
        ("case", "chunks", "batches", "columns, ms", "objects, ms", "ratio", "least", "most"),
        [
            (
                result["case"],
                f"{result['chunks']:,}",
                f"{result['batches']:,}",
                f"{result['columns_ms']:.1f}",
                f"{result['objects_ms']:.1f}",
                f"{result['ratio']:.1f}",
                f"{result['ratios'][0]:.1f}",
                f"{result['ratios'][-1]:.1f}",
            )
            for result in results
        ],
    )
    write_json(arguments.json, {"conditions": conditions(), "results": results})


if __name__ == "__main__":
    main()
