"""One read on a GPU: batches are staged, walked, put together as work, and started on streams.

    fetch    threads read the batch into pinned memory, and do the host's part
    decode   walk the frames; upload staging and one table; nvCOMP and kernels; scatter
    finish   wait for the statuses, which come back once a batch

Work is started as soon as a batch is staged, and the host goes on to the next. So one batch is
read while the next is uploaded, the one before it decoded. Only a small batch waits for the next
one, where that is of another program: they share a flight. Memory of batches that are under way is
counted; where the limit is reached, the oldest is waited for: nothing else makes the host wait.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda import transfer
from gpuzarr.engines.cuda.device_program import DeviceProgram
from gpuzarr.engines.cuda.flight import Carried, Flight, flight_nbytes
from gpuzarr.engines.cuda.frames.blosc_on_device import Probe
from gpuzarr.engines.cuda.marks import marked
from gpuzarr.engines.cuda.placing import Places
from gpuzarr.engines.cuda.readings import DirectReading, Reading, find_direct
from gpuzarr.engines.cuda.slabs import slab_nbytes
from gpuzarr.engines.cuda.staged import DeviceChunks, ReadChunks, Stage, Staging
from gpuzarr.engines.cuda.staging import MISSING, READY, PinnedReading
from gpuzarr.engines.cuda.transfer import OutputTarget
from gpuzarr.engines.cuda.tuning import JOINED_NBYTES
from gpuzarr.engines.cuda.work import Work
from gpuzarr.engines.failures import FILL, chunk_failure, combine, fill_what_fits
from gpuzarr.errors import GpuzarrError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.device import Stream
    from gpuzarr.engines.cuda.direct import DirectReads
    from gpuzarr.engines.cuda.engine import CudaEngine
    from gpuzarr.engines.engine import DeviceArray, Output
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.batches import Batch
    from gpuzarr.plan.chunk_table import PieceTable
    from gpuzarr.program import DecodeProgram
    from gpuzarr.stores.store import Store


class CudaSession:
    """A read in flight; see `gpuzarr.engines.engine.Session`."""

    def __init__(self, engine: CudaEngine, outputs: Sequence[Output], stream: Stream) -> None:
        """Start a read whose work is ordered on `stream`.

        Raises:
            UnsupportedError: a conversion that the GPU does not do.
        """
        self._engine = engine
        self.device = engine.on_device
        self._stream = stream
        self._places = Places(engine.rates, engine.cores)
        self._failures: list[ChunkFailure] = []
        self._readings: deque[Reading | DirectReading] = deque()
        self._flights: deque[Flight] = deque()
        self._boarding: Flight | None = None
        """The last of them, while small batches of other programs are awaited for it."""
        self._targets = [
            OutputTarget(output, self.device.address_of(output.array)) for output in outputs
        ]
        self._flying_nbytes = 0
        self._host_nbytes = 0
        """Of the slabs that are in use: of readings that were started, and of flights."""
        self._missing = 0

    def __del__(self) -> None:
        """Of a read that nobody waits for: the device uses its memory until the work is done."""
        if getattr(self, "_flights", ()) or getattr(self, "_readings", ()):
            self.abort()

    # ----------------------------------------------------------------------------------- hops

    @marked
    def fetch(self, program: DecodeProgram, batch: Batch, store: Store) -> Reading | DirectReading:
        """Start the reads of a batch, if there is room for them now."""
        direct = self._fetch_directly(program, batch, store)
        if direct is not None:
            return direct
        cut = self._engine.cut(program)
        if self._engine.decode == "auto":
            cut = self._places.cut(cut, batch)
        reading = Reading(batch, store, cut, self._engine.decoder_for)
        self._check_fits(reading)
        self._readings.append(reading)
        if self._host_nbytes + reading.nbytes <= self._engine.ahead_limit:
            self._begin(reading)
        return reading

    def _fetch_directly(
        self, program: DecodeProgram, batch: Batch, store: Store
    ) -> DirectReading | None:
        """Start reading straight to the device, where that is possible."""
        if not self._engine.reads_directly(program):
            return None
        reading = find_direct(self._engine, program, batch, store)
        if reading is None:
            return None
        self._check_fits(reading)
        self._readings.append(reading)
        if self._flying_nbytes + reading.nbytes <= self._engine.device_limit // 2:
            self._begin_directly(reading)
        return reading

    @marked
    def decode(
        self, program: DecodeProgram, batch: Batch, staging: Reading | DirectReading
    ) -> None:
        """Take a batch to the device; returns when that is started."""
        if isinstance(staging, DirectReading):
            self._decode_directly(program, batch, staging)
        else:
            self._decode_staged(program, batch, staging)
        if not self._readings:
            self._depart()

    def _decode_staged(self, program: DecodeProgram, batch: Batch, staging: Reading) -> None:
        """The same for a batch that is on the host."""
        staged, failures = self._begin(staging).wait()
        self._readings.remove(staging)
        self._host_nbytes += staged.slab.nbytes - staging.nbytes
        self._failures += failures
        self._fill_missing(batch, np.flatnonzero(staged.state == MISSING))
        rows = np.flatnonzero(staged.state == READY)
        in_slab = Staging(staged.slab, staged.used)
        read = ReadChunks(batch, rows, staged.offset[rows], staged.nbytes[rows], in_slab)
        chunks = self._stage(program).run(staging.cut, read, None)
        self._host_nbytes += chunks.host_nbytes - staged.slab.nbytes
        self._take(program, chunks)

    def _decode_directly(
        self, program: DecodeProgram, batch: Batch, staging: DirectReading
    ) -> None:
        """The same for a batch that is in device memory already."""
        reading = self._begin_directly(staging)
        found, failures = reading.wait()
        self._readings.remove(staging)
        self._flying_nbytes -= reading.device_nbytes  # it comes back with the flight
        self._failures += failures
        self._fill_missing(batch, np.flatnonzero(found.state == MISSING))
        rows = np.flatnonzero(found.state == READY)
        if not len(rows) or found.memory is None:
            return
        there = Staging(None, 0, found.memory, found.base)
        read = ReadChunks(batch, rows, found.offset[rows], found.nbytes[rows], there)
        chunks = self._stage(program).run(DeviceProgram(program, 0), read, self._probe())
        self._host_nbytes += chunks.host_nbytes
        self._take(program, chunks)

    def _stage(self, program: DecodeProgram) -> Stage:
        """What finds out what the host can tell of chunks."""
        engine = self._engine
        return Stage(
            engine.pool,
            engine.decoder_for,
            strict=engine.decode == "device",
            failures=self._failures,
            host_chunks=engine.host_chunks(program),
            make_room=self._make_room,
        )

    def _probe(self) -> Probe:
        """What asks about bytes that came straight to the device: without waiting for decoding."""
        return Probe(self.device, self._engine.pool, self.device.copy_stream)

    @marked
    def fill(self, pieces: PieceTable) -> None:
        """Write the fill value where chunks are not stored.

        Raises:
            ValueError: one that does not fit into its output.
        """
        self._depart()
        work = Work()
        transfer.fill(work, self._targets, pieces)
        flight = self._new_flight()
        flight.start_work(work)
        self._count(flight)

    @marked
    def scatter(self, program: DecodeProgram, batch: Batch, array: DeviceArray) -> None:
        """Write the pieces of chunks that lie decoded in an array of the device."""
        self._depart()
        address = self.device.address_of(array)
        self._start(DeviceChunks.on_device(batch, DeviceProgram(program, 0), array, address))

    def fail(self, failures: Sequence[ChunkFailure]) -> None:
        """Record failures."""
        self._failures.extend(failures)

    @marked
    def finish(self) -> int:
        """Wait for the device, and raise what failed; gives the number of chunks not stored."""
        self._depart()  # of a read that was stopped
        while self._flights:
            self._land()
        if self._failures:
            raise combine(self._failures)
        return self._missing

    def abort(self) -> None:
        """Stop reading, and wait until the device writes no more."""
        while self._readings:
            reading = self._readings.popleft()
            if reading.started is not None:
                reading.started.abort()
        while self._flights:
            with suppress(GpuzarrError):
                self._land(decide=False)
        self._boarding = None

    # --------------------------------------------------------------------------------- pieces

    def _begin(self, reading: Reading) -> PinnedReading:
        """Start reading, once there is room for what is read."""
        if reading.started is None:
            self._make_room(reading.nbytes, self._engine.ahead_limit)
            self._host_nbytes += reading.nbytes
        return reading.start(self._engine)

    def _begin_directly(self, reading: DirectReading) -> DirectReads:
        """Start reading to the device, once there is room there."""
        if reading.started is None:
            limit = self._engine.device_limit
            while self._flights and self._flying_nbytes + reading.nbytes > limit:
                self._land()
            self._flying_nbytes += reading.start().device_nbytes
        return reading.start()

    def _make_room(self, nbytes: int, limit: int | None = None) -> None:
        """Wait for flights while so much more memory on the host would be too much."""
        limit = self._engine.host_limit if limit is None else limit
        while self._flights and self._host_nbytes + nbytes > limit:
            self._land()

    def _new_flight(self) -> Flight:
        """One that is known before anything of it is started."""
        flight = Flight(self.device, self._engine.pool, self._stream)
        self._flights.append(flight)
        return flight

    def _count(self, flight: Flight, due_nbytes: int = 0) -> None:
        """Count the memory of a flight: what it has, or will have, if that is more."""
        nbytes = max(flight.nbytes, due_nbytes)
        self._flying_nbytes += nbytes - flight.counted_nbytes
        flight.counted_nbytes = nbytes
        self._host_nbytes += flight.own_host_nbytes

    def _take(self, program: DecodeProgram, chunks: DeviceChunks) -> None:
        """Start a batch; but a small one waits for the next, where that is of another program.

        All flights are in the order of their batches, since chunks may be written to memory that
        other chunks were in before.
        """
        waits = bool(self._readings) and self._readings[0].program is not program
        if (waits or self._boarding) and len(chunks) and chunks.staging.memory is None:
            batch = Carried.of(chunks)
            if self._boarding and not self._are_small([*self._boarding.batches, batch]):
                self._depart()
            if self._boarding or (waits and self._are_small([batch])):
                self._board(batch)
                if not waits:
                    self._depart()
                return
        self._depart()
        self._start(chunks)

    def _are_small(self, batches: Sequence[Carried]) -> bool:
        """Whether batches are worth a common flight, and may wait for it."""
        if self._host_nbytes > self._engine.host_limit // 4:
            return False
        limit = min(JOINED_NBYTES, self._engine.device_limit // 4)
        return sum(flight_nbytes(batches, self.device)) <= limit

    def _board(self, batch: Carried) -> None:
        """Upload a batch, and count what decoding it will need: departing makes no room."""
        self._clear_way(flight_nbytes([batch], self.device))
        flight = self._boarding
        if flight is None:  # or it had to depart to make room
            self._boarding = flight = self._new_flight()
        flight.board(batch)
        self._count(flight, sum(flight_nbytes(flight.batches, self.device)))

    def _depart(self) -> None:
        """Decode what is on board."""
        flight = self._boarding
        if flight is not None:
            flight.depart(self._targets)
            self._boarding = None
            self._count(flight)

    def _clear_way(self, nbytes: tuple[int, int]) -> None:
        """Wait for flights until there is room for another one: for its chunks, and its table."""
        while self._flights and self._flying_nbytes + sum(nbytes) > self._engine.device_limit:
            self._land()
        self._make_room(2 * slab_nbytes(nbytes[1]))

    def _start(self, chunks: DeviceChunks) -> None:
        """Start a batch alone, in parts where it needs too much memory."""
        if not len(chunks):
            self._host_nbytes -= chunks.host_nbytes
            chunks.give_back()
            return
        batch = Carried.of(chunks)
        nbytes = flight_nbytes([batch], self.device)
        if sum(nbytes) > self._engine.device_limit and self._cut(chunks, sum(nbytes)):
            return
        self._clear_way(nbytes)
        flight = self._new_flight()
        flight.board(batch)
        flight.depart(self._targets)
        self._count(flight)

    def _cut(self, chunks: DeviceChunks, needed: int) -> bool:
        """Start a batch that needs too much memory in two parts; False: it is one chunk.

        Raises:
            MemoryLimitError: that needs more than the user's limit.
        """
        if len(chunks) == 1:
            if self._engine.memory_limit is None:
                return False
            chunks.give_back()
            raise self._engine.too_large(needed)
        self._host_nbytes -= chunks.host_nbytes
        halves = chunks.halves(self._engine.pool)
        self._host_nbytes += sum(half.host_nbytes for half in halves)
        for half in halves:
            self._start(half)
        return True

    def _land(self, *, decide: bool = True) -> None:
        """Wait for the oldest flight.

        What the device could not decompress is decoded on the host, which is the judge of damage:
        so the answers are the same, whatever a GPU's decoder makes of rare streams.

        Args:
            decide: whether that is worth it.
        """
        flight = self._flights[0]  # known until it is done, whatever interrupts the wait
        if decide and flight is self._boarding:
            self._depart()
        try:
            flight.wait()
        except GpuzarrError:
            self._flights.popleft()
            raise
        self._flights.popleft()
        self._flying_nbytes -= flight.counted_nbytes
        again: list[DeviceChunks] = []
        try:
            for landed in flight.landed():
                refused = landed.refused()
                if decide and len(refused) and self._engine.decode != "device":
                    stage = self._stage(landed.chunks.program.program)
                    again.append(stage.again(landed.chunks, refused, self._probe()))
                    self._host_nbytes += again[-1].host_nbytes
                else:
                    refused = refused[:0]
                self._failures += landed.failures(refused)
        finally:
            self._host_nbytes -= flight.host_nbytes
            flight.give_back()
        for chunks in again:
            self._start(chunks)

    def _fill_missing(self, batch: Batch, rows: NDArray[np.int64]) -> None:
        """Write the fill value to the pieces of chunks that turned out not to be stored."""
        if not len(rows):
            return
        self._missing += len(rows)
        failed = fill_what_fits(self.fill, batch.pieces.of_chunks(rows))
        self._failures += [
            chunk_failure(batch, int(rows[place]), FILL, error) for place, error in failed.items()
        ]

    def _check_fits(self, reading: Reading | DirectReading) -> None:
        """Refuse chunks that exceed the user's limit before they are read."""
        limit = self._engine.memory_limit
        if limit is None:
            return
        needed = np.maximum(reading.batch.nbytes, reading.batch.chunks.decoded_nbytes)
        if int(needed.max()) > limit:
            raise self._engine.too_large(int(needed.max()))
