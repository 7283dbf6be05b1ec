"""A staged batch, as it will go to the device: sizes checked, frames walked, each chunk placed.

Everything that the host can tell of the chunks is found here, before the device sees them: wrong
sizes, damaged frames, and frames that only the host can decode, which it does at once.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.frames.blosc_on_device import walk_blosc_on_device
from gpuzarr.engines.cuda.frames.streams import EncodedChunks
from gpuzarr.engines.cuda.frames.walk import walk_frames
from gpuzarr.engines.cuda.host_chunks import decode_on_host
from gpuzarr.engines.cuda.layout import slots
from gpuzarr.engines.failures import chunk_failure
from gpuzarr.errors import DecodeError, GpuzarrError, UnsupportedError
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
    from gpuzarr.engines.engine import DeviceArray
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch

log = logging.getLogger("gpuzarr.engine")

REFUSED = "the GPU found damage where the host finds none"
"""Why chunks that were on the device are decoded on the host after all."""


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


class Occupied:
    """An array whose memory is in use; none of it is the read's own."""

    def __init__(self, array: DeviceArray) -> None:
        """Keep it."""
        self.array = array
        self.address = self.nbytes = 0


@dataclass(frozen=True, slots=True, eq=False)
class ReadChunks:
    """Chunks of a batch that were read: encoded bytes, of which nothing is known yet."""

    batch: Batch
    rows: NDArray[np.int64]
    """(n,) rows of the batch, ascending."""
    offset: NDArray[np.int64]
    """(n,) first byte of each in `staging`."""
    nbytes: NDArray[np.int64]
    """(n,) its bytes."""
    staging: Staging

    def bytes_of(self, row: int, probe: Probe | None) -> memoryview:
        """The encoded bytes of a row of the batch, from wherever they are."""
        place = int(np.searchsorted(self.rows, row))
        start = int(self.offset[place])
        if self.staging.slab is not None:
            return self.staging.slab.array[start : start + int(self.nbytes[place])].data
        assert probe is not None  # noqa: S101  it comes with staging on the device
        one = slice(place, place + 1)
        return probe.gather(self.staging.base + self.offset[one], self.nbytes[one])[0].data


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

    @classmethod
    def on_device(
        cls, batch: Batch, program: DeviceProgram, array: DeviceArray, address: int
    ) -> DeviceChunks:
        """Chunks that lie decoded in an array of the device.

        Args:
            batch: `start` is where each begins, in bytes, in the array.
            program: without steps.
            array: holds them.
            address: of the array.
        """
        n = len(batch.chunks)
        staging = Staging(None, 0, Occupied(array), address)
        place = np.full(n, DEVICE, np.uint8)
        rows, start, nbytes = np.arange(n), batch.start, batch.nbytes
        return cls(batch, program, rows, place, start, nbytes, staging, None, None)

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

    def run(self, program: DeviceProgram, read: ReadChunks, probe: Probe | None) -> DeviceChunks:
        """Check and place the chunks of a batch that were read.

        Args:
            program: what is done with them.
            read: the chunks.
            probe: asks the device, where they lie there.
        """
        read = self._of_due_size(program, read)
        frames, on_host = None, np.zeros(0, np.int64)
        good = np.arange(len(read.rows))
        step = program.decompress
        if step is not None and len(read.rows):
            shapes = read.batch.chunks.shape[read.rows]
            sizes = program.sizes(shapes)[:, program.steps.index(step)]
            if read.staging.slab is not None:
                image = read.staging.slab.array
                encoded = EncodedChunks(image, read.offset, read.nbytes, sizes)
                frames = walk_frames(step.format, encoded)
            else:
                assert probe is not None  # noqa: S101  it comes with staging on the device
                base = read.staging.base
                frames = walk_blosc_on_device(probe, base, read.offset, read.nbytes, sizes)
            good, on_host = self._judge(frames, read, describe_step(step))
            if len(good) < len(read.rows):
                frames = frames.take(good)
        decoded = None
        place = np.full(len(read.rows), DEVICE, np.uint8)
        offset, nbytes = read.offset.copy(), read.nbytes.copy()
        if len(on_host):
            decoded, held, begin = self._decode_on_host(program, read, on_host, probe)
            on_host = on_host[held]
            offset[on_host] = begin
            place[on_host] = HOST
            nbytes[on_host] = read.batch.chunks.decoded_nbytes[read.rows[on_host]]
        kept = np.sort(np.concatenate([good, on_host]))
        return DeviceChunks(
            read.batch,
            program,
            read.rows[kept],
            place[kept],
            offset[kept],
            nbytes[kept],
            read.staging,
            decoded,
            frames,
        )

    def again(self, chunks: DeviceChunks, places: NDArray[np.int64], probe: Probe) -> DeviceChunks:
        """Decode on the host what the device refused: the host says whether it is damaged.

        Args:
            chunks: of a batch that was on the device, whose staging is there still.
            places: which of them.
            probe: asks the device.
        """
        rows, program = chunks.rows[places], chunks.program
        offset, nbytes = chunks.offset[places], chunks.nbytes[places]
        read = ReadChunks(chunks.batch, rows, offset, nbytes, chunks.staging)
        decoded, held, begin = self._decode_on_host(program, read, np.arange(len(rows)), probe)
        rows, count = rows[held], len(held)
        if count:
            assert program.decompress is not None  # noqa: S101  it is what refused them
            name = describe_step(program.decompress)
            self.host_chunks[f"{name}: {REFUSED}"] += count
            log.info("decode: the GPU refused %d chunks that the host decodes: %s", count, name)
        place = np.full(len(rows), HOST, np.uint8)
        nbytes = chunks.batch.chunks.decoded_nbytes[rows]
        nothing = Staging(None, 0)
        return DeviceChunks(
            chunks.batch, program, rows, place, begin, nbytes, nothing, decoded, None
        )

    def _decode_on_host(
        self,
        program: DeviceProgram,
        read: ReadChunks,
        places: NDArray[np.int64],
        probe: Probe | None,
    ) -> tuple[Staging, NDArray[np.int64], NDArray[np.int64]]:
        """Decode what only the host can; gives where, which places came out, where each begins."""
        rows = read.rows[places]
        self.make_room(int(read.batch.chunks.decoded_nbytes[rows].sum()))
        slab, held, begin, failures = decode_on_host(
            read.batch,
            rows,
            lambda row: read.bytes_of(row, probe),
            program.program,
            self.decoder_for,
            self.pool,
            program.first,
        )
        self.failures += failures
        return Staging(slab, len(slab.array)), held, begin

    def _judge(
        self, frames: Frames, read: ReadChunks, name: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The places of chunks for the device, and of those for the host; others have failed."""
        bad = np.zeros(len(read.rows), np.bool_)
        for place, message in frames.failures.items():
            bad[place] = True
            self._fail(read, place, name, DecodeError(message))
        on_host = np.array(sorted(frames.host), np.int64)
        bad[on_host] = True
        for place, reason in frames.host.items():
            if self.strict:
                cause = UnsupportedError(f"the GPU cannot decode this chunk: {reason}")
                self._fail(read, place, name, cause)
            else:
                self.host_chunks[f"{name}: {reason}"] += 1
        return np.flatnonzero(~bad), on_host[:0] if self.strict else on_host

    def _of_due_size(self, program: DeviceProgram, read: ReadChunks) -> ReadChunks:
        """The chunks whose size is what the program's steps take; others have failed."""
        if not len(read.rows):
            return read
        due = program.due_nbytes(read.batch.chunks.shape[read.rows])
        if due is None or bool((read.nbytes == due).all()):
            return read
        name = describe_step(program.program.steps[0]) if program.program.steps else "read"
        right = read.nbytes == due
        for place in np.flatnonzero(~right).tolist():
            message = f"{read.nbytes[place]} bytes are stored, not {due[place]}"
            self._fail(read, place, name, DecodeError(message))
        rows, offset, nbytes = read.rows[right], read.offset[right], read.nbytes[right]
        return replace(read, rows=rows, offset=offset, nbytes=nbytes)

    def _fail(self, read: ReadChunks, place: int, name: str, cause: GpuzarrError) -> None:
        self.failures.append(chunk_failure(read.batch, int(read.rows[place]), name, cause))
