"""A few chunks for a GPU by way of the host, which decodes them; see `gpuzarr.few`.

What a small read costs on a device are tables, launches and waiting, not bytes. So where the cost
model leaves it to the host, the host's own reader does all of it: it writes what is wanted of the
chunks, converted, to pinned memory of the result's form, which one copy takes to the result.

    requests -> host's reader -> pinned: the result -> one copy
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.cuda.cost import DOUBT, BatchFacts, estimate
from gpuzarr.engines.cuda.transfer import find_transfer
from gpuzarr.engines.cuda.tuning import STREAM_NBYTES, UNKNOWN_RATIO
from gpuzarr.engines.engine import Output, PlacesReport
from gpuzarr.errors import GpuzarrError
from gpuzarr.program import VerifyChecksum

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpuzarr.engines.cuda.device import Device, Event, Stream
    from gpuzarr.engines.cuda.engine import CudaEngine
    from gpuzarr.engines.cuda.slabs import Slab
    from gpuzarr.engines.engine import Brick, FewReader, FewRequest, Landing
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Store

MOST_NBYTES = 1 << 24
"""Results above this size go through a session, which uploads some while it decodes others."""


_PINNED = np.empty(0)
"""Of the kind of array that the host reads into."""


class CudaFewReader:
    """See `gpuzarr.engines.engine.FewReader`."""

    def __init__(
        self, engine: CudaEngine, host: FewReader, program: DecodeProgram, shape: tuple[int, ...]
    ) -> None:
        """Take what chunks of one program and shape are read with.

        Args:
            engine: the device's.
            host: reads them into NumPy arrays.
            program: how they are decoded.
            shape: of a chunk.
        """
        self._engine = engine
        self._host = host
        self._stored = program.layout.dtype
        self._nbytes = program.decoded_nbytes(shape)
        cut = engine.cut(program)
        self._codec = None if cut.decompress is None else cut.decompress.format
        self._largest_stream = min(self._nbytes, STREAM_NBYTES.get(self._codec or "", self._nbytes))
        self._steps = sum(not isinstance(step, VerifyChecksum) for step in cut.steps)

    @property
    def device(self) -> Device:
        """The engine's."""
        return self._engine.on_device

    def takes(self, count: int, nbytes: int) -> bool:
        """What the host decodes: by the rule for batches."""
        if nbytes > MOST_NBYTES:
            return False
        if self._engine.decode == "host":
            return True
        host_s, device_s = self._seconds(count, nbytes)
        return DOUBT * host_s < device_s

    def places(self, count: int, nbytes: int) -> PlacesReport | None:
        """That the host decodes them, where that was chosen."""
        if self._engine.decode == "host" or not self.takes(count, nbytes):
            return None
        host_s, device_s = self._seconds(count, nbytes)
        why = f"the host is more than {DOUBT:g} times as fast, and one copy takes the result up"
        return PlacesReport(1, 0, 1e3 * host_s, 1e3 * device_s, why)

    def takes_brick(self, store: Store, count: int, array: object) -> bool:
        """As the host, into pinned memory."""
        del array
        return self._host.takes_brick(store, count, _PINNED)

    def read_brick(
        self, store: Store, brick: Brick, output: Output, stream: Any = None
    ) -> Upload | None:
        """Read a brick into pinned memory, and start to copy it."""
        with self.device.mark("gpuzarr: read"):
            return self._upload(partial(self._host.read_brick, store, brick), output, stream)

    def read(
        self,
        store: Store,
        requests: Sequence[FewRequest],
        missing: Sequence[tuple[slice, ...]],
        output: Output,
        stream: Any = None,
    ) -> Upload | None:
        """Read chunks into pinned memory, and start to copy it."""
        read = partial(self._host.read, store, requests, missing)
        with self.device.mark("gpuzarr: read"):
            return self._upload(read, output, stream)

    def _upload(
        self, read: Callable[[Output], Landing | None], output: Output, stream: Any
    ) -> Upload | None:
        """Let the host read into pinned memory, and start to copy it."""
        device, array = self.device, output.array
        dtype, nbytes = output.conversion.result, int(array.nbytes)
        if array.dtype != dtype or not array.flags.c_contiguous:
            return None
        ordered = device.current_stream() if stream is None else device.as_stream(stream)
        try:
            find_transfer(self._stored, output.conversion)  # what large reads refuse, these do too
            slab = self._engine.pool.take(nbytes)
        except GpuzarrError:  # told by the read with columns
            return None
        upload = Upload(device, slab, ordered)
        try:
            values = upload.array.view(dtype).reshape(array.shape)
            staged = Output(values, output.fill, output.conversion)
            if read(staged) is None:
                upload.give_back()
                return None
            upload.start(device.address_of(array))
        except BaseException:
            upload.wait()
            raise
        return upload

    def _seconds(self, count: int, nbytes: int) -> tuple[float, float]:
        """How long the host takes in this way, and the device with columns and launches.

        Args:
            count: of the chunks.
            nbytes: of the result.
        """
        rates, decoded = self._engine.rates, count * self._nbytes
        if self._codec is None:  # the device would do no more than filters and the scatter
            copied = self._steps * decoded or nbytes  # of what is stored as it is, no more
            host_s = count * rates.chunk_s + copied / rates.filters
            return host_s, rates.columns_s
        facts = BatchFacts(
            self._codec,
            chunks=count,
            requests=count,  # its chunks are shared out, whatever they lie in
            encoded_nbytes=int(decoded / UNKNOWN_RATIO),
            decoded_nbytes=decoded,
            largest_stream=self._largest_stream,
            filters=self._steps - 1,
            threads=self._engine.cores,
        )
        found = estimate(facts, rates)
        return found.host_s, found.device_s + rates.columns_s


class Upload:
    """A result in pinned memory, on its way; see `gpuzarr.engines.engine.Landing`."""

    def __init__(self, device: Device, slab: Slab, stream: Stream) -> None:
        """Nothing is started yet.

        Args:
            device: where it goes.
            slab: holds the result.
            stream: what the copy is ordered on.
        """
        self._device = device
        self._slab: Slab | None = slab
        self._stream = stream
        self._is_started = False
        self._landed: Event | None = None

    @property
    def array(self) -> Any:
        """The memory, uint8."""
        assert self._slab is not None  # noqa: S101  it is asked for before it is given back
        return self._slab.array

    def start(self, address: int) -> None:
        """Start the copy to an address."""
        self._is_started = True
        self._device.upload(self.array, address, self._stream)
        self._landed = self._device.record(self._stream)

    def wait(self) -> None:
        """Block until the result is there."""
        if self._slab is None:
            return
        if self._is_started:
            if self._landed is None:  # it was interrupted while it was started
                self._landed = self._device.record(self._stream)
            self._landed.wait()
        self.give_back()

    def give_back(self) -> None:
        """The memory is not needed any more."""
        slab, self._slab = self._slab, None
        if slab is not None:
            slab.give_back()

    def __del__(self) -> None:
        """Of a read that nobody waits for: the device reads the memory until the copy is done."""
        if getattr(self, "_slab", None) is not None:
            with suppress(GpuzarrError):
                self.wait()
