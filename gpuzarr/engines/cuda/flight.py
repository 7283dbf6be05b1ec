"""Work that was started on a stream, until the host has seen how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda import transfer
from gpuzarr.engines.cuda.batch import BatchBuilder
from gpuzarr.engines.cuda.chunk_state import ChunkState
from gpuzarr.engines.cuda.layout import STATUS_NBYTES, count_images, lay_out
from gpuzarr.engines.cuda.statuses import failures_of, refused
from gpuzarr.engines.cuda.work import Work
from gpuzarr.errors import DeviceError
from gpuzarr.plan.batches import DEVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Device, Event, Memory, Stream
    from gpuzarr.engines.cuda.layout import BatchLayout
    from gpuzarr.engines.cuda.slabs import Slab, SlabPool
    from gpuzarr.engines.cuda.staged import DeviceChunks
    from gpuzarr.engines.cuda.transfer import OutputTarget
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.chunk_table import PieceTable

TABLE_COLUMNS = 16
"""64-bit columns that a chunk or a stream has in the table, at most and about."""
NAMED_CHUNKS = 3
"""Chunks that an error of the device names."""


@dataclass(slots=True, eq=False)
class Flight:
    """A batch, or fill values, on their way."""

    event: Event
    """When it comes, all is done."""
    memory: list[Memory]
    """Device memory in use."""
    slabs: list[Slab]
    """Host memory in use."""
    nbytes: int
    """Of the device memory."""
    own_host_nbytes: int
    """Of the host memory that came with the flight: the table and the statuses."""
    chunks: DeviceChunks | None = None
    status: NDArray[np.int32] | None = None
    """(chunks,) written before the event comes."""

    @property
    def host_nbytes(self) -> int:
        """Of all host memory in use."""
        return sum(slab.nbytes for slab in self.slabs)

    def wait(self) -> None:
        """Wait for it.

        Raises:
            DeviceError: the device failed, not a chunk.
        """
        try:
            self.event.wait()
        except DeviceError as error:
            raise self._explain(error) from error

    def refused(self) -> NDArray[np.int64]:
        """The places of chunks that the device could not decompress."""
        return np.zeros(0, np.int64) if self.status is None else refused(self.status)

    def failures(self, decided: NDArray[np.int64]) -> list[ChunkFailure]:
        """What failed, but for the chunks at places about which something else decides."""
        if self.chunks is None or self.status is None or not self.status.any():
            return []
        status, chunks = self.status.copy(), self.chunks
        status[decided] = 0
        return failures_of(status, chunks.rows, chunks.batch, chunks.program.steps)

    def give_back(self) -> None:
        """Its memory is not needed any more."""
        self.memory.clear()
        for slab in self.slabs:
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
    return _lay_out(chunks, device)[0].nbytes


def _lay_out(chunks: DeviceChunks, device: Device) -> tuple[BatchLayout, NDArray[np.int64]]:
    """Where everything lies, and the sizes of the chunks' slots in an image."""
    sizes = chunks.program.sizes(chunks.shapes)
    encoded = chunks.place == DEVICE
    image_nbytes = np.where(encoded, sizes.max(axis=1, initial=0), 0)
    images = count_images(chunks.program.steps, chunks.frames) if encoded.any() else 0
    layout = lay_out(
        device.decompressor,
        staging=0 if chunks.staging.slab is None else chunks.staging.used,
        host_decoded=0 if chunks.decoded is None else chunks.decoded.used,
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


def start_chunks(  # noqa: PLR0913, PLR0917  what is done, and where
    chunks: DeviceChunks,
    targets: Sequence[OutputTarget],
    pieces: PieceTable,
    device: Device,
    pool: SlabPool,
    stream: Stream,
) -> Flight:
    """Upload, decode and scatter chunks.

    Args:
        chunks: staged and placed.
        targets: the read's outputs.
        pieces: of these chunks; `pieces.chunk` is their place among them.
        device: where.
        pool: for the table and the statuses.
        stream: what the work is ordered on.
    """
    layout, image_nbytes = _lay_out(chunks, device)
    memory = device.allocate(layout.nbytes, stream)
    base = memory.address
    staging, decoded = chunks.staging, chunks.decoded
    if staging.memory is not None:
        staging_address = staging.base
    else:
        staging_address = base + layout.staging
        if staging.slab is not None and staging.used:
            device.upload(staging.slab.array[: staging.used], staging_address, stream)
    decoded_address = base + layout.host_decoded
    if decoded is not None and decoded.slab is not None and decoded.used:
        device.upload(decoded.slab.array[: decoded.used], decoded_address, stream)
    status_nbytes = STATUS_NBYTES * len(chunks)
    device.clear(base + layout.status, status_nbytes, stream)
    encoded = chunks.place == DEVICE
    state = ChunkState(
        layout=layout,
        base=base,
        address=np.where(encoded, staging_address, decoded_address) + chunks.offset,
        nbytes=chunks.nbytes,
        shapes=chunks.shapes,
        encoded=encoded,
        image_nbytes=image_nbytes,
    )
    builder = BatchBuilder(
        state,
        decompressor=device.decompressor,
        layout=layout,
        base=base,
        staging=staging_address,
    )
    if encoded.any():
        sizes = chunks.program.sizes(chunks.shapes)
        builder.run(chunks.program.steps, sizes, chunks.frames)
    work = builder.finish(targets, pieces, chunks.program.program.layout)
    table, table_slab = work.run(device, pool, stream)
    status_slab = pool.take(status_nbytes)
    device.download(base + layout.status, status_slab.array, stream)
    own = [table_slab, status_slab]
    return Flight(
        device.record(stream),
        [kept for kept in (memory, table, staging.memory) if kept is not None],
        own + chunks.slabs,
        layout.nbytes + work.nbytes + staging.device_nbytes,
        sum(slab.nbytes for slab in own),
        chunks,
        status_slab.array.view(np.int32),
    )


def start_fill(
    targets: Sequence[OutputTarget],
    pieces: PieceTable,
    device: Device,
    pool: SlabPool,
    stream: Stream,
) -> Flight:
    """Write fill values.

    Raises:
        ValueError: one that does not fit into its output.
    """
    work = Work()
    transfer.fill(work, targets, pieces)
    table, slab = work.run(device, pool, stream)
    kept = [] if table is None else [table]
    return Flight(device.record(stream), kept, [slab], work.nbytes, slab.nbytes)
