"""A staged batch, as it will go to the device: sizes checked, frames walked, each chunk placed.

Everything that the host can tell of the chunks is found here, before the device sees them: wrong
sizes, damaged frames, and frames that only the host can decode, which it does at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.frames.blosc_on_device import walk_blosc_on_device
from gpuzarr.engines.cuda.frames.streams import EncodedChunks
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.cuda.host_chunks import decode_on_host
from gpuzarr.engines.cuda.layout import slots
from gpuzarr.engines.failures import chunk_failure
from gpuzarr.errors import DecodeError, UnsupportedError
from gpuzarr.plan.batches import DEVICE, HOST
from gpuzarr.program import describe_step

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Memory
    from gpuzarr.engines.cuda.device_program import DeviceProgram
    from gpuzarr.engines.cuda.frames.blosc_on_device import Probe
    from gpuzarr.engines.cuda.frames.streams import Frames
    from gpuzarr.engines.cuda.slabs import Slab, SlabPool
    from gpuzarr.engines.cuda.staging import DecoderFor
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch


@dataclass(frozen=True, slots=True, eq=False)
class Staging:
    """Bytes that the device's steps start from: on the host, to be uploaded, or there already."""

    slab: Slab | None
    """None: they are in `memory`."""
    used: int
    """Bytes from the start that hold something."""
    memory: Memory | None = None
    """Device memory that they were read into..."""
    base: int = 0
    """...and the address there that offsets count from."""

    @property
    def device_nbytes(self) -> int:
        """Bytes of device memory in use."""
        return 0 if self.memory is None else self.memory.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class DeviceChunks:
    """Chunks of a batch that the device finishes."""

    batch: Batch
    program: DeviceProgram
    rows: NDArray[np.int64]
    """(n,) rows of the batch, ascending."""
    place: NDArray[np.uint8]
    """(n,) DEVICE: its bytes are in `staging`, for the device's steps; HOST: decoded, in
    `decoded`."""
    offset: NDArray[np.int64]
    """(n,) first byte in the one or the other."""
    nbytes: NDArray[np.int64]
    """(n,) its bytes there."""
    staging: Staging
    decoded: Staging | None
    frames: Frames | None
    """Of the chunks with place DEVICE, in their order."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(n, ndim) shapes."""
        return self.batch.chunks.shape[self.rows]

    @property
    def slabs(self) -> list[Slab]:
        """Its memory on the host."""
        parts = (self.staging, self.decoded)
        return [part.slab for part in parts if part is not None and part.slab is not None]

    @property
    def host_nbytes(self) -> int:
        """Bytes of its memory on the host."""
        return sum(slab.nbytes for slab in self.slabs)

    def give_back(self) -> None:
        """Its memory on the host is not needed any more."""
        for slab in self.slabs:
            slab.give_back()

    def halves(self, pool: SlabPool) -> tuple[DeviceChunks, DeviceChunks]:
        """The first and the second half of the chunks, each with staging of its own."""
        middle = len(self) // 2
        both = (self._part(pool, 0, middle), self._part(pool, middle, len(self)))
        self.give_back()
        return both

    def _part(self, pool: SlabPool, first: int, end: int) -> DeviceChunks:
        here = slice(first, end)
        place, offset, nbytes = self.place[here], self.offset[here].copy(), self.nbytes[here]
        on_device, on_host = np.flatnonzero(place == DEVICE), np.flatnonzero(place == HOST)
        staging = _repacked(pool, self.staging, offset, nbytes, on_device)
        decoded = self.decoded
        if decoded is not None:
            decoded = _repacked(pool, decoded, offset, nbytes, on_host)
        frames = self.frames
        if frames is not None:
            before = int((self.place[:first] == DEVICE).sum())
            frames = frames.take(np.arange(before, before + len(on_device)))
            moved = offset[on_device] - self.offset[here][on_device]
            frames = frames.moved(moved) if self.staging.slab is not None else frames
        return replace(
            self,
            rows=self.rows[here],
            place=place,
            offset=offset,
            nbytes=nbytes,
            staging=staging,
            decoded=decoded,
            frames=frames,
        )


def _repacked(
    pool: SlabPool,
    staging: Staging,
    offset: NDArray[np.int64],
    nbytes: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> Staging:
    """Some chunks in a slab of their own; `offset` is brought up to date.

    This copies chunk by chunk; it is for batches that turn out too large for the memory limit.
    """
    if staging.slab is None:
        return staging
    begin, total = slots(nbytes[rows])
    slab = pool.take(total)
    source = staging.slab.array
    for old, new, size in zip(
        offset[rows].tolist(), begin.tolist(), nbytes[rows].tolist(), strict=True
    ):
        slab.array[new : new + size] = source[old : old + size]
    offset[rows] = begin
    return Staging(slab, total)


@dataclass(slots=True, eq=False)
class Stage:
    """Finds out what the host can tell of a batch's chunks."""

    pool: SlabPool
    decoder_for: DecoderFor
    strict: bool
    """Whether chunks that only the host can decode are refused."""
    failures: list[ChunkFailure]
    """Where failures are recorded."""
    host_chunks: Counter[str]
    """Where it is counted why chunks were decoded on the host."""
    make_room: Callable[[int], None]
    """Called before so much more host memory is taken."""

    def run(  # noqa: PLR0913, PLR0917  what is known of chunks
        self,
        program: DeviceProgram,
        batch: Batch,
        rows: NDArray[np.int64],
        offset: NDArray[np.int64],
        nbytes: NDArray[np.int64],
        staging: Staging,
        probe: Probe | None = None,
    ) -> DeviceChunks:
        """Check and place the chunks of a batch that were read.

        Args:
            program: what is done with them.
            batch: the batch.
            rows: (n,) its rows that were read.
            offset: (n,) first byte of each in `staging`.
            nbytes: (n,) its bytes.
            staging: where they lie.
            probe: asks the device, where they lie there.
        """
        rows, offset, nbytes = self._of_due_size(program, batch, rows, offset, nbytes)
        frames, on_host = None, np.zeros(0, np.int64)
        good = np.arange(len(rows))
        step = program.decompress
        if step is not None and len(rows):
            sizes = program.sizes(batch.chunks.shape[rows])[:, program.steps.index(step)]
            if staging.slab is not None:
                chunks = EncodedChunks(staging.slab.array, offset, nbytes, sizes)
                frames = walk_frames(step.format, chunks)
            else:
                assert probe is not None  # noqa: S101  it comes with staging on the device
                frames = walk_blosc_on_device(probe, staging.base, offset, nbytes, sizes)
            good, on_host = self._judge(frames, batch, rows, describe_step(step))
        return self.place(
            program, batch, rows, offset, nbytes, staging, probe, frames, good, on_host
        )

    def place(  # noqa: PLR0913, PLR0917  what is known of chunks
        self,
        program: DeviceProgram,
        batch: Batch,
        rows: NDArray[np.int64],
        offset: NDArray[np.int64],
        nbytes: NDArray[np.int64],
        staging: Staging,
        probe: Probe | None,
        frames: Frames | None,
        good: NDArray[np.int64],
        on_host: NDArray[np.int64],
    ) -> DeviceChunks:
        """Decode on the host what only it can decode, and put all together in order."""
        decoded = None
        place = np.full(len(rows), DEVICE, np.uint8)
        offset, nbytes = offset.copy(), nbytes.copy()
        if len(on_host):
            self.make_room(int(batch.chunks.decoded_nbytes[rows[on_host]].sum()))
            slab, begin, failures = decode_on_host(
                batch,
                rows[on_host],
                _bytes_of(rows, offset.copy(), nbytes.copy(), staging, probe),
                program.program,
                self.decoder_for,
                self.pool,
                program.first,
            )
            self.failures += failures
            decoded = Staging(slab, len(slab.array))
            place[on_host] = HOST
            offset[on_host] = begin
            nbytes[on_host] = batch.chunks.decoded_nbytes[rows[on_host]]
        kept = np.sort(np.concatenate([good, on_host]))
        if frames is not None and len(good) < len(rows):
            frames = frames.take(good)
        return DeviceChunks(
            batch,
            program,
            rows[kept],
            place[kept],
            offset[kept],
            nbytes[kept],
            staging,
            decoded,
            frames,
        )

    def _judge(
        self, frames: Frames, batch: Batch, rows: NDArray[np.int64], name: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places of chunks for the device, and of those for the host; others have failed."""
        bad = np.zeros(len(rows), np.bool_)
        for place, message in frames.failures.items():
            bad[place] = True
            failure = chunk_failure(batch, int(rows[place]), name, DecodeError(message))
            self.failures.append(failure)
        on_host = np.array(sorted(frames.host), np.int64)
        bad[on_host] = True
        for place, reason in frames.host.items():
            if not self.strict:
                self.host_chunks[f"{name}: {reason}"] += 1
                continue
            cause = UnsupportedError(f"the GPU cannot decode this chunk: {reason}")
            self.failures.append(chunk_failure(batch, int(rows[place]), name, cause))
        return np.flatnonzero(~bad), on_host[:0] if self.strict else on_host

    def _of_due_size(
        self,
        program: DeviceProgram,
        batch: Batch,
        rows: NDArray[np.int64],
        offset: NDArray[np.int64],
        nbytes: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The chunks whose size is what the program's steps take; others have failed."""
        due = program.due_nbytes(batch.chunks.shape[rows]) if len(rows) else None
        if due is None or bool((nbytes == due).all()):
            return rows, offset, nbytes
        name = describe_step(program.program.steps[0]) if program.program.steps else "read"
        for place in np.flatnonzero(nbytes != due).tolist():
            cause = DecodeError(f"{nbytes[place]} bytes are stored, not {due[place]}")
            self.failures.append(chunk_failure(batch, int(rows[place]), name, cause))
        right = np.flatnonzero(nbytes == due)
        return rows[right], offset[right], nbytes[right]


def _bytes_of(
    rows: NDArray[np.int64],
    offset: NDArray[np.int64],
    nbytes: NDArray[np.int64],
    staging: Staging,
    probe: Probe | None,
) -> Callable[[int], memoryview]:
    """A function that gives the encoded bytes of a row of the batch."""

    def encoded(row: int) -> memoryview:
        place = int(np.searchsorted(rows, row))
        start = int(offset[place])
        if staging.slab is not None:
            return staging.slab.array[start : start + int(nbytes[place])].data
        assert probe is not None  # noqa: S101  as in `run`
        one = slice(place, place + 1)
        return probe.gather(staging.base + offset[one], nbytes[one])[0].data

    return encoded
