"""Work that was started on streams, until the host has seen how it ended.

What the work needs is uploaded on the device's own stream for copies, so that it does not wait for
what the consumer's stream has to do before; the work itself is on the consumer's, and waits for its
upload:

    copies      upload 1, event | upload 2, event | ...
    consumer's                  | wait, decode 1, scatter 1, statuses, event | wait, decode 2, ...

A flight may carry several small batches, of different programs: they are uploaded as they come, and
decoded together.

Memory that is uploaded to belongs to the stream for copies, by whose order it could be written
again while the other stream still reads it. So a flight holds it until the host has seen its last
event. A session knows its flights from before they are started, whatever interrupts them.
"""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray  # noqa: TC002  NamedTuples look at these

from gpuzarr.engines.cuda import transfer
from gpuzarr.engines.cuda.batch import BatchBuilder, Member
from gpuzarr.engines.cuda.chunk_state import ChunkState
from gpuzarr.engines.cuda.layout import (
    STATUS_NBYTES,
    Needs,
    UploadLayout,
    count_images,
    lay_out,
    lay_out_uploads,
)
from gpuzarr.engines.cuda.staged import DeviceChunks  # noqa: TC001
from gpuzarr.engines.cuda.statuses import failures_of, refused
from gpuzarr.engines.cuda.work import Work
from gpuzarr.errors import DeviceError
from gpuzarr.plan.batches import DEVICE
from gpuzarr.plan.chunk_table import PieceTable  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.cuda.device import Device, Event, Memory, Stream
    from gpuzarr.engines.cuda.layout import BatchLayout
    from gpuzarr.engines.cuda.slabs import Slab, SlabPool
    from gpuzarr.engines.cuda.staged import Staging
    from gpuzarr.engines.cuda.transfer import OutputTarget
    from gpuzarr.errors import ChunkFailure

TABLE_COLUMNS = 16
"""64-bit columns that a chunk or a stream has in the table, at most and about."""
NAMED_CHUNKS = 3
"""Chunks that an error of the device names."""


class Carried(NamedTuple):
    """A batch on a flight."""

    chunks: DeviceChunks
    """Staged and placed."""
    pieces: PieceTable
    """Of these chunks; `pieces.chunk` is their place among them."""
    needs: Needs
    """For decoding."""
    uploads: UploadLayout
    """Where what is uploaded goes."""
    table_nbytes: int
    """Of its columns in the table, rather too many."""

    @classmethod
    def of(cls, chunks: DeviceChunks) -> Carried:
        """These chunks, with their pieces."""
        pieces = chunks.batch.pieces.of_chunks(chunks.rows)
        uploads = lay_out_uploads(_host_nbytes(chunks.staging), _host_nbytes(chunks.decoded))
        return cls(chunks, pieces, _needs(chunks), uploads, _table_nbytes(chunks, pieces))


class Landed(NamedTuple):
    """A batch whose flight has landed."""

    chunks: DeviceChunks
    status: NDArray[np.int32]
    """(chunks,)"""

    def refused(self) -> NDArray[np.int64]:
        """The places of chunks that the device could not decompress."""
        return refused(self.status)

    def failures(self, decided: NDArray[np.int64]) -> list[ChunkFailure]:
        """What failed, but for the chunks at places about which something else decides."""
        if not self.status.any():
            return []
        status, chunks = self.status.copy(), self.chunks
        status[decided] = 0
        return failures_of(status, chunks.rows, chunks.batch, chunks.program.steps)


class Flight:
    """Batches that are decoded together, or fill values, on their way."""

    def __init__(self, device: Device, pool: SlabPool, stream: Stream) -> None:
        """Nothing is started yet.

        Args:
            device: where.
            pool: for host memory.
            stream: what the work is ordered on: the consumer's.
        """
        self._device = device
        self._pool = pool
        self._stream = stream
        self._landed: Event | None = None
        """When it comes, all is done; None until all is started."""
        self._memory: list[Memory] = []
        """Device memory in use."""
        self._slabs: list[Slab] = []
        """Host memory in use..."""
        self.own_host_nbytes = 0
        """...and what of it came with the flight: the table and the statuses."""
        self.counted_nbytes = 0
        """Of device memory, as its session counts it: also what it will need."""
        self.batches: list[Carried] = []
        self._uploaded: list[tuple[int, int]] = []
        """For each of them, where encoded chunks are, and decoded ones."""
        self._status: NDArray[np.int32] | None = None
        """(chunks of all batches,) written before it lands."""

    @property
    def nbytes(self) -> int:
        """Of all device memory in use."""
        return sum(memory.nbytes for memory in self._memory)

    @property
    def host_nbytes(self) -> int:
        """Of all host memory in use."""
        return sum(slab.nbytes for slab in self._slabs)

    # ----------------------------------------------------------------------------------- start

    def board(self, batch: Carried) -> None:
        """Upload a batch; its memory is the flight's from now on."""
        self._slabs += batch.chunks.slabs
        self.batches.append(batch)
        self._uploaded.append(self._upload(batch.chunks, batch.uploads))

    def depart(self, targets: Sequence[OutputTarget]) -> None:
        """Decode and scatter the chunks of all batches that are on board.

        Args:
            targets: the read's outputs.
        """
        device, work, batches = self._device, Work(), self.batches
        layout = lay_out(device.decompressor, [batch.needs for batch in batches])
        base = self._allocate(layout.nbytes, self._stream)
        status_nbytes = STATUS_NBYTES * layout.nchunks
        device.clear(base + layout.status, status_nbytes, self._stream)
        members = [
            _member(work, batch, layout, number, base, *self._uploaded[number])
            for number, batch in enumerate(batches)
        ]
        BatchBuilder(work, decompressor=device.decompressor, layout=layout, base=base).run(members)
        for batch, member in zip(batches, members, strict=True):
            state, columns = member.chunks, member.chunks.columns()
            form = batch.chunks.program.program.layout
            transfer.scatter(work, targets, batch.pieces, state.shapes, form, columns, state.status)
        self._start(work)
        slab = self._pool.take(status_nbytes)
        self._keep(slab)
        device.download(base + layout.status, slab.array, self._stream)
        self._status = slab.array.view(np.int32)
        self._landed = device.record(self._stream)

    def start_work(self, work: Work) -> None:
        """Start work that has no chunks, and no statuses."""
        self._start(work)
        self._landed = self._device.record(self._stream)

    def _upload(self, chunks: DeviceChunks, layout: UploadLayout) -> tuple[int, int]:
        """Upload what is on the host; gives where encoded chunks are, and decoded ones."""
        device, staging = self._device, chunks.staging
        if staging.memory is not None:
            self._memory.append(staging.memory)
        if not layout.nbytes:
            return staging.base, 0
        base = self._allocate(layout.nbytes, device.copy_stream)
        for part, address in ((staging, base), (chunks.decoded, base + layout.host_decoded)):
            if part is not None and part.slab is not None and part.used:
                device.upload(part.slab.array[: part.used], address, device.copy_stream)
        address = base if staging.memory is None else staging.base
        return address, base + layout.host_decoded

    def _start(self, work: Work) -> None:
        """Start work, behind all uploads."""
        device = self._device
        table = work.upload(device, self._pool, device.copy_stream)
        self._keep(table.slab)
        if table.memory is not None:
            self._memory.append(table.memory)
        device.wait_for(device.record(device.copy_stream), self._stream)
        work.start(table, device, self._stream)

    def _allocate(self, nbytes: int, stream: Stream) -> int:
        memory = self._device.allocate(nbytes, stream)
        self._memory.append(memory)
        return memory.address

    def _keep(self, slab: Slab) -> None:
        self._slabs.append(slab)
        self.own_host_nbytes += slab.nbytes

    # ------------------------------------------------------------------------------------ land

    def wait(self) -> None:
        """Wait until nothing of it is under way any more.

        Raises:
            DeviceError: the device failed, not a chunk.
        """
        device = self._device
        try:
            if self._landed is None:  # it was interrupted while it was started
                device.record(device.copy_stream).wait()
                self._landed = device.record(self._stream)
            self._landed.wait()
        except DeviceError as error:
            raise self._explain(error) from error

    def landed(self) -> list[Landed]:
        """What became of its batches, once `wait` is over."""
        if self._status is None:
            return []
        ends = list(accumulate(len(batch.chunks) for batch in self.batches))
        return [
            Landed(batch.chunks, self._status[begin:end])
            for batch, (begin, end) in zip(self.batches, pairwise([0, *ends]), strict=True)
        ]

    def give_back(self) -> None:
        """Its memory is not needed any more."""
        self._memory.clear()
        for slab in self._slabs:
            slab.give_back()

    def _explain(self, error: DeviceError) -> DeviceError:
        """Which chunks were being decoded when the device failed."""
        if not self.batches:
            return error
        count, named = 0, list[str]()
        for chunks in (batch.chunks for batch in self.batches):
            held = chunks.batch.request[chunks.rows[:NAMED_CHUNKS]].tolist()
            named += [chunks.batch.requests.keys[request] for request in held]
            count += len(chunks)
        keys = ", ".join(list(dict.fromkeys(named))[:NAMED_CHUNKS])
        return DeviceError(
            f"the GPU failed while it decoded {count} chunks ({keys}, ...): {error.message};"
            ' damaged chunks may be the reason: read them with decode="host"'
        )


def flight_nbytes(batches: Sequence[Carried], device: Device) -> tuple[int, int]:
    """Device memory that decoding these batches together takes: for chunks, and for the table."""
    layout = lay_out(device.decompressor, [batch.needs for batch in batches])
    uploads = sum(batch.uploads.nbytes + batch.chunks.staging.device_nbytes for batch in batches)
    return layout.nbytes + uploads, (1 << 12) + sum(batch.table_nbytes for batch in batches)


def _host_nbytes(part: Staging | None) -> int:
    """Bytes that are uploaded."""
    return 0 if part is None or part.slab is None else part.used


def _needs(chunks: DeviceChunks) -> Needs:
    """What else is needed on the device."""
    encoded = chunks.place == DEVICE
    sizes = chunks.program.sizes(chunks.shapes).max(axis=1, initial=0)
    images = count_images(chunks.program.steps, chunks.frames) if encoded.any() else 0
    return Needs(np.where(encoded, sizes, 0), images, chunks.frames)


def _member(  # noqa: PLR0913, PLR0917  where everything is
    work: Work,
    batch: Carried,
    layout: BatchLayout,
    number: int,
    base: int,
    staging: int,
    decoded: int,
) -> Member:
    """A batch among those of a flight.

    Args:
        work: of the flight.
        batch: the batch.
        layout: of the flight.
        number: of the batch.
        base: address of the flight's memory.
        staging: address of encoded chunks.
        decoded: address of those that the host decoded.
    """
    chunks = batch.chunks
    encoded, first = chunks.place == DEVICE, layout.first[number]
    image_0, image_1 = layout.images[number]
    state = ChunkState(
        work,
        images=(base + image_0, base + image_1),
        status=base + layout.status + STATUS_NBYTES * first,
        value=base + layout.value,
        address=np.where(encoded, staging, decoded) + chunks.offset,
        nbytes=chunks.nbytes,
        shapes=chunks.shapes,
        encoded=encoded,
        image_nbytes=batch.needs.image_nbytes,
    )
    steps, sizes = chunks.program.steps, chunks.program.sizes(chunks.shapes)
    return Member(state, steps, sizes, chunks.frames, staging, first)


def _table_nbytes(chunks: DeviceChunks, pieces: PieceTable) -> int:
    """Bytes of the columns in the table, rather too many."""
    rows = len(chunks) * (1 + len(chunks.program.steps))
    if chunks.frames is not None:
        rows += len(chunks.frames.copies)
        rows += sum(len(table) for table in chunks.frames.streams.values())
    naxes = pieces.extent.shape[1]
    columns = TABLE_COLUMNS * rows + len(pieces) * (4 + 3 * naxes)
    if any(axis.local is not None for axes in pieces.axes for axis in axes):
        columns += 2 * int(pieces.extent.sum())
    return int(8 * columns)
