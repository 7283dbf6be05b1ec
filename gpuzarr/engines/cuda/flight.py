"""Work that was started on streams, until the host has seen how it ended.

What the work needs is uploaded on the device's own stream for copies, so that it does not wait for
what the consumer's stream has to do before; the work itself is on the consumer's, and waits for its
upload:

    copies      upload 1, event | upload 2, event | ...
    consumer's                  | wait, decode 1, scatter 1, statuses, event | wait, decode 2, ...

Memory that is uploaded to belongs to the stream for copies, by whose order it could be written
again while the other stream still reads it. So a flight holds it until the host has seen its last
event. A session knows its flights from before they are started, whatever interrupts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.batch import BatchBuilder
from gpuzarr.engines.cuda.chunk_state import ChunkState
from gpuzarr.engines.cuda.layout import STATUS_NBYTES, count_images, lay_out, lay_out_uploads
from gpuzarr.engines.cuda.statuses import failures_of, refused
from gpuzarr.errors import DeviceError
from gpuzarr.plan.batches import DEVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, Event, Memory, Stream
    from gpuzarr.engines.cuda.layout import BatchLayout, UploadLayout
    from gpuzarr.engines.cuda.slabs import Slab, SlabPool
    from gpuzarr.engines.cuda.staged import DeviceChunks, Staging
    from gpuzarr.engines.cuda.transfer import OutputTarget
    from gpuzarr.engines.cuda.work import Work
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.chunk_table import PieceTable

TABLE_COLUMNS = 16
"""64-bit columns that a chunk or a stream has in the table, at most and about."""
NAMED_CHUNKS = 3
"""Chunks that an error of the device names."""


class Flight:
    """A batch, or fill values, on their way."""

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
        self.chunks: DeviceChunks | None = None
        self._status: NDArray[np.int32] | None = None
        """(chunks,) written before it lands."""

    @property
    def nbytes(self) -> int:
        """Of all device memory in use."""
        return sum(memory.nbytes for memory in self._memory)

    @property
    def host_nbytes(self) -> int:
        """Of all host memory in use."""
        return sum(slab.nbytes for slab in self._slabs)

    # ----------------------------------------------------------------------------------- start

    def start_chunks(
        self, chunks: DeviceChunks, targets: Sequence[OutputTarget], pieces: PieceTable
    ) -> None:
        """Upload, decode and scatter chunks.

        Args:
            chunks: staged and placed; their memory is the flight's from now on.
            targets: the read's outputs.
            pieces: of these chunks; `pieces.chunk` is their place among them.
        """
        self.chunks = chunks
        self._slabs += chunks.slabs
        device, decompressor = self._device, self._device.decompressor
        staging, decoded = self._upload(chunks)
        layout, image_nbytes = _lay_out(chunks, device)
        base = self._allocate(layout.nbytes, self._stream)
        status_nbytes = STATUS_NBYTES * len(chunks)
        device.clear(base + layout.status, status_nbytes, self._stream)
        encoded = chunks.place == DEVICE
        state = ChunkState(
            layout=layout,
            base=base,
            address=np.where(encoded, staging, decoded) + chunks.offset,
            nbytes=chunks.nbytes,
            shapes=chunks.shapes,
            encoded=encoded,
            image_nbytes=image_nbytes,
        )
        builder = BatchBuilder(
            state, decompressor=decompressor, layout=layout, base=base, staging=staging
        )
        if encoded.any():
            sizes = chunks.program.sizes(chunks.shapes)
            builder.run(chunks.program.steps, sizes, chunks.frames)
        self._start(builder.finish(targets, pieces, chunks.program.program.layout))
        slab = self._pool.take(status_nbytes)
        self._keep(slab)
        device.download(base + layout.status, slab.array, self._stream)
        self._status = slab.array.view(np.int32)
        self._landed = device.record(self._stream)

    def start_work(self, work: Work) -> None:
        """Start work that has no chunks, and no statuses."""
        self._start(work)
        self._landed = self._device.record(self._stream)

    def _upload(self, chunks: DeviceChunks) -> tuple[int, int]:
        """Upload what is on the host; gives where encoded chunks are, and decoded ones."""
        device, staging = self._device, chunks.staging
        if staging.memory is not None:
            self._memory.append(staging.memory)
        layout = _lay_out_uploads(chunks)
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

    def refused(self) -> NDArray[np.int64]:
        """The places of chunks that the device could not decompress."""
        return np.zeros(0, np.int64) if self._status is None else refused(self._status)

    def failures(self, decided: NDArray[np.int64]) -> list[ChunkFailure]:
        """What failed, but for the chunks at places about which something else decides."""
        if self.chunks is None or self._status is None or not self._status.any():
            return []
        status, chunks = self._status.copy(), self.chunks
        status[decided] = 0
        return failures_of(status, chunks.rows, chunks.batch, chunks.program.steps)

    def give_back(self) -> None:
        """Its memory is not needed any more."""
        self._memory.clear()
        for slab in self._slabs:
            slab.give_back()

    def _explain(self, error: DeviceError) -> DeviceError:
        """Which chunks were being decoded when the device failed."""
        if self.chunks is None:
            return error
        requests, rows = self.chunks.batch.requests, self.chunks.rows
        held = self.chunks.batch.request[rows[:NAMED_CHUNKS]].tolist()
        keys = ", ".join(dict.fromkeys(requests.keys[request] for request in held))
        return DeviceError(
            f"the GPU failed while it decoded {len(rows)} chunks ({keys}, ...): {error.message};"
            ' damaged chunks may be the reason: read them with decode="host"'
        )


def layout_nbytes(chunks: DeviceChunks, device: Device) -> int:
    """Device memory that decoding these chunks takes, without the table."""
    return _lay_out_uploads(chunks).nbytes + _lay_out(chunks, device)[0].nbytes


def _host_nbytes(part: Staging | None) -> int:
    """Bytes that are uploaded."""
    return 0 if part is None or part.slab is None else part.used


def _lay_out_uploads(chunks: DeviceChunks) -> UploadLayout:
    """Where what is uploaded lies."""
    return lay_out_uploads(_host_nbytes(chunks.staging), _host_nbytes(chunks.decoded))


def _lay_out(chunks: DeviceChunks, device: Device) -> tuple[BatchLayout, NDArray[np.int64]]:
    """Where everything else lies, and the sizes of the chunks' slots in an image."""
    sizes = chunks.program.sizes(chunks.shapes)
    encoded = chunks.place == DEVICE
    image_nbytes = np.where(encoded, sizes.max(axis=1, initial=0), 0)
    images = count_images(chunks.program.steps, chunks.frames) if encoded.any() else 0
    layout = lay_out(
        device.decompressor,
        image_nbytes=image_nbytes,
        images=images,
        frames=chunks.frames,
        nchunks=len(chunks),
    )
    return layout, image_nbytes


def table_nbytes(chunks: DeviceChunks, pieces: PieceTable) -> int:
    """Bytes of the table, rather too many."""
    rows = len(chunks) * (1 + len(chunks.program.steps))
    if chunks.frames is not None:
        rows += len(chunks.frames.copies)
        rows += sum(len(table) for table in chunks.frames.streams.values())
    naxes = pieces.extent.shape[1]
    columns = TABLE_COLUMNS * rows + len(pieces) * (4 + 3 * naxes)
    if any(axis.local is not None for axes in pieces.axes for axis in axes):
        columns += 2 * int(pieces.extent.sum())
    return int(8 * columns) + (1 << 12)
