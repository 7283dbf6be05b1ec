"""The reads of a batch, which begin when there is room for what they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.kvikio_reader import PAGE, KvikioReading, local_paths
from gpuzarr.engines.cuda.remote_reader import RemoteReading, find_urls
from gpuzarr.engines.cuda.slabs import slab_nbytes
from gpuzarr.engines.cuda.staging import HostPart, PinnedReading, find_decoders, staged_nbytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.engines.cuda.device_program import DeviceProgram
    from gpuzarr.engines.cuda.direct import DirectReads
    from gpuzarr.engines.cuda.engine import CudaEngine
    from gpuzarr.engines.cuda.staging import DecoderFor
    from gpuzarr.plan.batches import Batch
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Store


class Reading:
    """Reads into pinned memory."""

    def __init__(
        self, batch: Batch, store: Store, cut: DeviceProgram, decoder_for: DecoderFor
    ) -> None:
        self.batch = batch
        self.store = store
        self.cut = cut
        self.program = cut.program
        self.part = part = HostPart(cut.program, cut.first, cut.checks_only, decoder_for)
        self.started: PinnedReading | None = None
        decoders = find_decoders(batch, part)
        self._room_nbytes = staged_nbytes(batch, store, part, decoders)
        self.nbytes = slab_nbytes(self._room_nbytes)
        """Host memory that it takes."""

    def start(self, engine: CudaEngine) -> PinnedReading:
        """Begin, if that was not done yet."""
        if self.started is None:
            self.started = PinnedReading(
                self.batch, self.store, self.part, engine.pool, engine.threads, self._room_nbytes
            )
        return self.started


class DirectReading:
    """Reads straight to the device."""

    def __init__(
        self, program: DecodeProgram, batch: Batch, begin: Callable[[], DirectReads]
    ) -> None:
        self.program = program
        self.batch = batch
        self._begin = begin
        self.started: DirectReads | None = None
        least = np.maximum(batch.nbytes, batch.chunks.decoded_nbytes)
        self.nbytes = int(least.sum()) + 2 * PAGE * (1 + len(batch.requests))
        """Device memory that it takes, about."""

    def start(self) -> DirectReads:
        """Begin, if that was not done yet."""
        if self.started is None:
            self.started = self._begin()
        return self.started


def find_direct(
    engine: CudaEngine, program: DecodeProgram, batch: Batch, store: Store
) -> DirectReading | None:
    """How kvikio reads a batch of a store; None where it cannot."""
    device, keys = engine.on_device, batch.requests.keys
    if engine.io == "kvikio" and (urls := find_urls(store, batch.requests)) is not None:
        return DirectReading(
            program, batch, lambda: RemoteReading(batch, store, urls, device, engine.pool)
        )
    paths = local_paths(store, keys)
    if paths is None:
        return None
    return DirectReading(program, batch, lambda: KvikioReading(batch, paths, device))
