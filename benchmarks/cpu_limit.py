"""Reading and decoding alone: what is left when nothing else is done, the limit for any reader.

The bytes are read with one system call a file, or for each half MiB of a shard, into memory that is
used again, and decoded by the bare libraries into fresh memory of the result's size, in as many
threads as there are CPUs, each with a run of chunks. Which bytes of which files is known before.
Nothing is put in its place, turned, swapped or checked, and no metadata is looked at.
"""

from __future__ import annotations

import itertools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    Place = tuple[int, ...]
    Key = tuple[slice | int, ...]
    Decode = Callable[[memoryview, memoryview], object]
    """Decodes the first into the second; what it returns is kept: it is the result."""

PIECE = 1 << 19
"""The most bytes of several chunks that are read at once; they stay in the CPU's cache."""
SMALL_ZSTD = 1 << 20
"""Up to this size a reused context and a copy are faster than numcodecs, which makes a context."""
IN_CACHE = 1 << 14
"""Elements that are unshuffled at a time."""
INDEX_ENTRY, CHECKSUM = 16, 4
"""Bytes of a chunk's entry in a shard's index, and behind the index."""


@dataclass(frozen=True)
class Piece:
    """Bytes that are read at once, and the chunks in them."""

    path: str
    offset: int
    nbytes: int
    parts: tuple[tuple[int, int], ...]
    """Where each chunk begins and ends, from `offset` on."""
    places: tuple[Place, ...]
    """Each chunk's coordinates in the grid of chunks."""


@dataclass(frozen=True)
class Stored:
    """How an array is stored, as far as its chunks' bytes go."""

    path: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    """Those of the stored objects: the chunks' own where there are no shards."""
    dtype: np.dtype[Any]
    codecs: tuple[str, ...]
    transposed: bool
    prefix: str
    separator: str

    @property
    def nbytes(self) -> int:
        """Bytes of a decoded chunk."""
        return prod(self.chunks) * self.dtype.itemsize

    @property
    def sharded(self) -> bool:
        """Whether several chunks lie in a stored object."""
        return self.shards != self.chunks

    def name(self, place: Place) -> str:
        """The path of a stored object."""
        return str(self.path / (self.prefix + self.separator.join(map(str, place))))


def stored(path: Path) -> Stored:
    """Look at an array's metadata, of the few kinds that the workloads have."""
    if (path / "zarr.json").exists():
        document = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        outer = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
        inner, codecs = outer, document["codecs"]
        if codecs[0]["name"] == "sharding_indexed":
            inner = tuple(codecs[0]["configuration"]["chunk_shape"])
            codecs = codecs[0]["configuration"]["codecs"]
        names = tuple(codec["name"] for codec in codecs)
        return Stored(
            path,
            tuple(document["shape"]),
            inner,
            outer,
            np.dtype(document["data_type"]),
            tuple(name for name in names if name not in ("bytes", "transpose")),
            "transpose" in names,
            "c/",
            "/",
        )
    document = json.loads((path / ".zarray").read_text(encoding="utf-8"))
    chunks = tuple(document["chunks"])
    steps = [*(document["filters"] or []), document["compressor"]]
    return Stored(
        path,
        tuple(document["shape"]),
        chunks,
        chunks,
        np.dtype(document["dtype"]),
        tuple(step["id"] for step in steps),
        document["order"] == "F",
        "",
        document["dimension_separator"],
    )


def needed(array: Stored, keys: Sequence[Key]) -> list[Place]:
    """The chunks that selections need, each once, those of a stored object together."""
    found: set[Place] = set()
    for key in keys:
        ranges = []
        for part, size, chunk in zip(key, array.shape, array.chunks, strict=True):
            begin, end, _ = (part if isinstance(part, slice) else slice(part, part + 1)).indices(
                size
            )
            ranges.append(range(begin // chunk, -(-end // chunk)))
        found.update(itertools.product(*ranges))
    return sorted(found, key=lambda place: (_shard_of(array, place), place))


def _shard_of(array: Stored, place: Place) -> Place:
    sides = zip(place, array.chunks, array.shards, strict=True)
    return tuple(at * chunk // shard for at, chunk, shard in sides)


def pieces_of(array: Stored, places: Iterable[Place]) -> list[Piece]:
    """What to read: a file each, or neighbours in a shard together."""
    if not array.sharded:
        files = ((array.name(place), place) for place in places)
        sizes = ((name, Path(name).stat().st_size, place) for name, place in files)
        return [Piece(name, 0, size, ((0, size),), (place,)) for name, size, place in sizes]
    per_shard = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    pieces = []
    for shard, inside in itertools.groupby(places, lambda place: _shard_of(array, place)):
        name = array.name(shard)
        index = _shard_index(name, prod(per_shard))
        lying = []
        for place in inside:
            within = tuple(at % n for at, n in zip(place, per_shard, strict=True))
            offset, nbytes = index[np.ravel_multi_index(within, per_shard)].tolist()
            lying.append((offset, nbytes, place))
        pieces += _neighbours(name, sorted(lying))
    return pieces


def _shard_index(name: str, count: int) -> NDArray[np.uint64]:
    """Offset and size of each chunk; all of them are there in the workloads."""
    nbytes = count * INDEX_ENTRY
    with Path(name).open("rb") as file:
        file.seek(-nbytes - CHECKSUM, os.SEEK_END)
        return np.frombuffer(file.read(nbytes), "<u8").reshape(count, 2)


def _neighbours(name: str, lying: Sequence[tuple[int, int, Place]]) -> list[Piece]:
    """Put chunks together that lie one behind another."""
    pieces: list[Piece] = []
    run: list[tuple[int, int, Place]] = []
    for chunk in [*lying, None]:
        if run:
            begin, end = run[0][0], run[-1][0] + run[-1][1]
            if chunk is not None and chunk[0] == end and chunk[0] + chunk[1] - begin <= PIECE:
                run.append(chunk)
                continue
            parts = tuple((offset - begin, offset - begin + size) for offset, size, _ in run)
            places = tuple(place for _, _, place in run)
            pieces.append(Piece(name, begin, end - begin, parts, places))
        run = [] if chunk is None else [chunk]
    return pieces


class Limit:
    """Reads and decodes the chunks that selections need."""

    def __init__(self, path: Path, keys: Sequence[Key], nthreads: int) -> None:
        """Find out what to read."""
        self._array = stored(path)
        pieces = pieces_of(self._array, needed(self._array, keys))
        share = -(-len(pieces) // nthreads)
        self._runs = [pieces[begin : begin + share] for begin in range(0, len(pieces), share)]
        self._whole = len(keys) == 1
        elements = sum(np.broadcast_to(0, self._array.shape)[key].size for key in keys)
        slots = elements * self._array.dtype.itemsize // self._array.nbytes // len(self._runs)
        if self._whole:
            slots = max(sum(len(piece.parts) for piece in run) for run in self._runs)
        self._memory = max(1, slots) * self._array.nbytes
        """Bytes of a thread's memory."""

    def read(self) -> list[list[Any]]:
        """What each thread's chunks decoded to, where the whole array is read.

        Crops often need more chunks than they have elements. Chunks of theirs are overwritten where
        memory ends: a reader that puts crops in their places does not keep chunks either.
        """
        memory = np.empty(self._memory * len(self._runs), np.uint8).data
        parts = [memory[self._memory * n :][: self._memory] for n in range(len(self._runs))]
        with ThreadPoolExecutor(len(self._runs)) as threads:
            return list(threads.map(self._decode_run, self._runs, parts))

    def _decode_run(self, run: Sequence[Piece], memory: memoryview) -> list[Any]:
        decode, decoded = decoder_of(self._array), []
        nbytes, begin = self._array.nbytes, 0
        buffer = memoryview(bytearray(max(piece.nbytes for piece in run)))
        for piece in run:
            target = memory[begin : begin + nbytes]
            encoded = target if decode is None else buffer[: piece.nbytes]
            file = os.open(piece.path, os.O_RDONLY)
            os.preadv(file, [encoded], piece.offset)
            os.close(file)
            for start, stop in piece.parts:
                target = memory[begin : begin + nbytes]
                made = target if decode is None else decode(encoded[start:stop], target)
                if self._whole:
                    decoded.append(made)
                begin = (begin + nbytes) % self._memory
        return decoded

    def agrees(self, truth: NDArray[Any]) -> bool:
        """Whether the whole array was decoded to what it holds; of crops nothing is known."""
        decoded = self.read()
        if not self._whole:
            return True
        array = self._array
        for run, blocks in zip(self._runs, decoded, strict=True):
            places = [place for piece in run for place in piece.places]
            for place, block in zip(places, blocks, strict=True):
                elements = np.frombuffer(block, array.dtype)
                if array.transposed:
                    elements = elements.reshape(array.chunks[::-1]).T
                else:
                    elements = elements.reshape(array.chunks)
                sides = zip(place, array.chunks, strict=True)
                region = tuple(slice(at * n, at * n + n) for at, n in sides)
                if not np.array_equal(elements, truth[region]):
                    return False
        return True


def decoder_of(array: Stored) -> Decode | None:
    """The fastest decoder found for chunks of this size, for one thread; None where nothing is."""
    match array.codecs:
        case ():
            return None
        case ("zstd",) if array.nbytes <= SMALL_ZSTD:
            return _zstd_with_context()
        case ("zstd",):
            import numcodecs.zstd  # noqa: PLC0415  each thread's decoder needs one library only

            return cast("Decode", numcodecs.zstd.decompress)
        case ("blosc",):
            import numcodecs.blosc  # noqa: PLC0415

            numcodecs.blosc.use_threads = False  # none within a chunk: all CPUs have chunks
            return cast("Decode", numcodecs.blosc.decompress)
        case ("gzip",):
            import deflate  # noqa: PLC0415

            return lambda encoded, target: deflate.gzip_decompress(encoded, len(target))
        case ("shuffle", "zlib"):
            import deflate  # noqa: PLC0415

            return lambda encoded, target: unshuffle_pairs(
                deflate.zlib_decompress(encoded, len(target)), target
            )
    raise NotImplementedError(f"no limit for {array.codecs}")


def _zstd_with_context() -> Decode:
    import zstandard  # noqa: PLC0415

    context = zstandard.ZstdDecompressor()

    def decode(encoded: memoryview, target: memoryview) -> memoryview:
        target[:] = context.decompress(encoded)
        return target

    return decode


def unshuffle_pairs(data: bytearray, target: memoryview) -> memoryview:
    """Undo the shuffle of elements of two bytes, faster than numcodecs does."""
    first, second = np.frombuffer(data, np.uint8).reshape(2, -1)
    elements = np.frombuffer(target, "<u2")
    for begin in range(0, len(elements), IN_CACHE):
        piece = elements[begin : begin + IN_CACHE]
        np.left_shift(second[begin : begin + IN_CACHE], 8, out=piece, dtype=np.uint16)
        np.bitwise_or(piece, first[begin : begin + IN_CACHE], out=piece)
    return target
