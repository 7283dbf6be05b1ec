"""The CUDA engine: results in device memory, decoded there as far as the GPU can.

    name "cuda"    the device runs all steps (the host verifies checksums over stored bytes)
    name "hybrid"  the host runs the first steps, the device the others and the scatter

It is one engine, since the two differ only in how many steps the host runs: none, some, or all.
"""

from __future__ import annotations

import threading
from collections import Counter
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, cast

from gpuzarr.engines.cuda import kvikio_reader
from gpuzarr.engines.cuda.calibration import rates_of
from gpuzarr.engines.cuda.capability import (
    leading_checksums,
    reasons_against,
    type_name,
    why_not_direct,
)
from gpuzarr.engines.cuda.device_program import DeviceProgram, cut_program
from gpuzarr.engines.cuda.few import CudaFewReader
from gpuzarr.engines.cuda.layout import device_nbytes_factor
from gpuzarr.engines.cuda.placing import report_places
from gpuzarr.engines.cuda.session import CudaSession
from gpuzarr.engines.cuda.slabs import SlabPool
from gpuzarr.engines.cuda.traced_device import TracedDevice
from gpuzarr.engines.cuda.tuning import SHAPES
from gpuzarr.engines.engine import ProgramReport
from gpuzarr.engines.pool import cpu_count
from gpuzarr.errors import MemoryLimitError, UnsupportedError
from gpuzarr.plan.batches import BatchLimits
from gpuzarr.program import describe_step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np

    from gpuzarr.engines.cuda.device import Device, Stream
    from gpuzarr.engines.cuda.staging import DecoderFor
    from gpuzarr.engines.cuda.tuning import Rates
    from gpuzarr.engines.engine import DeviceArray, FewReader, Output, PlacesReport
    from gpuzarr.engines.trace import Trace
    from gpuzarr.plan.batches import Batch
    from gpuzarr.program import DecodeProgram

FREE_SHARE = 4
"""A read holds no more than this part of the free device memory, without a `memory_limit`..."""
MOST_NBYTES = 1 << 31
"""...and no more than this."""
LEAST_NBYTES = 1 << 20
GAP_NBYTES = 1 << 16
"""Bytes of an object that are read for nothing to save a request."""
STAGED_BATCHES = 5
"""Batches whose bytes are on the host at once: read ahead, being read, or being uploaded."""
FLYING_BATCHES = 2
"""Batches that are on the device at once, in the plan."""


class CudaEngine:
    """See `gpuzarr.engines.engine.Engine`."""

    def __init__(  # noqa: PLR0913  everything that one may wish
        self,
        device: Device,
        decoder_for: DecoderFor,
        host_unsupported: Callable[[DecodeProgram], tuple[str, ...]],
        *,
        name: str = "hybrid",
        decode: Literal["auto", "device", "host"] = "auto",
        io: Literal["auto", "kvikio", "pinned"] = "auto",
        threads: int | None = None,
        memory_limit: int | None = None,
        pool: SlabPool | None = None,
        rates: Rates | None = None,
        host_few: Callable[[DecodeProgram, tuple[int, ...]], FewReader | None] | None = None,
    ) -> None:
        """Make an engine.

        Args:
            device: the GPU.
            decoder_for: prepares the host's decoders.
            host_unsupported: why the host cannot decode a program.
            name: what `Array.engine` shows, "cuda" or "hybrid".
            decode: "device" for programs that the GPU can run alone, "host" to decode on the host,
                "auto" for as much on the GPU as it can, where the host is not clearly faster.
            io: how bytes reach the device; see `gpuzarr.open`.
            threads: threads that read and decode on the host; None: one for each CPU.
            memory_limit: bytes that a read may hold beyond its output, on the device and on the
                host; None: a quarter of the device's free memory, 2 GiB at most, or one chunk where
                that is more.
            pool: the device's slabs.
            rates: how fast both sides are, for decode="auto"; None: what was measured here, or
                defaults.
            host_few: what reads a few chunks into NumPy arrays, for small reads that the host
                decodes.
        """
        self.on_device = device
        self.device = device.name
        self.decode = decode
        self.io = io
        self.name = name
        self.decoder_for = decoder_for
        self._host_unsupported = host_unsupported
        self._host_few = host_few
        self.threads = threads or cpu_count()
        self.cores = min(self.threads, cpu_count())
        """Threads that decode on the host at once."""
        self.memory_limit = memory_limit
        free = min(device.free_nbytes() // FREE_SHARE, MOST_NBYTES)
        self.device_limit = memory_limit if memory_limit is not None else max(free, 1)
        self.host_limit = self.device_limit
        self.ahead_limit = self.host_limit - self.host_limit // 4
        """Up to here bytes are read ahead; what is above is for tables, which come later."""
        self.pool = SlabPool(device) if pool is None else pool
        self.rates = rates_of(device) if rates is None else rates
        self._met: dict[DecodeProgram, Counter[str]] = {}
        self._lock = threading.Lock()

    def traced(self, trace: Trace) -> CudaEngine:
        """The same engine, on a device that notes what is put on its streams."""
        twin = copy(self)
        twin.on_device = cast("Device", TracedDevice(self.on_device, trace))
        return twin

    def cut(self, program: DecodeProgram) -> DeviceProgram:
        """Which steps run where."""
        return cut_program(program, self.on_device.decompressor, self.decode)

    def reads_directly(self, program: DecodeProgram) -> bool:
        """Whether the bytes of a program's chunks go straight to the device, where they can.

        They do where nobody on the host needs them: chunks that are not compressed, or frames that
        can be walked on the device.
        """
        if self.io == "pinned" or self.decode == "host" or why_not_direct(program) is not None:
            return False
        if self.io == "kvikio":
            return True
        return kvikio_reader.gds_available()

    def limits_for(self, program: DecodeProgram) -> BatchLimits:
        """Batches of which several fit into the memory limit."""
        cut = self.cut(program)
        factor = max(1.0, device_nbytes_factor(program, cut.first))
        parts = max(STAGED_BATCHES, FLYING_BATCHES * (1 + factor))
        step = cut.decompress
        shape = SHAPES[None if step is None else step.format]
        nbytes = max(1, min(int(self.device_limit / parts), shape.nbytes))
        # The device does better with few large batches than with as many as there are threads.
        return BatchLimits(
            nbytes, 1, GAP_NBYTES, least_nbytes=nbytes, chunk_nbytes=shape.chunk_nbytes
        )

    def places(self, program: DecodeProgram, batches: Sequence[Batch]) -> PlacesReport | None:
        """Where these batches of a read would be decoded; None: there is nothing to choose."""
        if self.decode != "auto" or self.reads_directly(program):
            return None
        return report_places(self.cut(program), batches, self.rates, self.cores)

    def unsupported(self, program: DecodeProgram) -> tuple[str, ...]:
        """Every reason why the program cannot run as this engine is to run it."""
        reasons = list(self._host_unsupported(program))
        if program.layout.dtype.hasobject:
            reasons.append(
                f"elements of variable length are not for {self.device}; read them with"
                ' device="cpu"'
            )
        if self.io == "kvikio" and (why := kvikio_reader.unavailable()) is not None:
            reasons.append(why)
        if self.decode == "device":
            reasons += reasons_against(program, self.on_device.decompressor)
        return tuple(reasons)

    def describe(self, program: DecodeProgram) -> ProgramReport:
        """Which step runs where, why, and what earlier reads met."""
        first = self.cut(program).first
        checks = leading_checksums(program)
        steps = [
            f"{describe_step(step)} ({'host' if place < first else self.device})"
            for place, step in enumerate(program.steps)
        ]
        notes: list[str] = []
        direct = why_not_direct(program)
        if self.reads_directly(program):
            far = ", and ranges of objects that have a URL" if self.io == "kvikio" else ""
            notes.append(f"bytes of local files{far} go straight to device memory, by kvikio")
        elif self.io == "kvikio" and direct is not None:
            notes.append(f"bytes go through pinned memory, not by kvikio: {direct}")
        if first > checks:
            if self.decode == "host":
                notes.append('chunks are decoded on the host, as decode="host" says')
            else:
                notes += reasons_against(program, self.on_device.decompressor)
        met = self.host_chunks(program)
        for reason, count in sorted(dict(met).items()):
            notes.append(f"{count:,} chunks that were read so far went to the host: {reason}")
        return ProgramReport(tuple(steps), tuple(notes))

    def host_chunks(self, program: DecodeProgram) -> Counter[str]:
        """Why chunks of a program were decoded on the host, and how many."""
        with self._lock:
            return self._met.setdefault(program, Counter())

    def too_large(self, needed: int) -> MemoryLimitError:
        """That a chunk needs so many bytes of the device, more than the user's limit."""
        return MemoryLimitError(
            f"a chunk needs {needed:,} bytes of {self.on_device.name} to decode; memory_limit is"
            f" {self.memory_limit:,}"
        )

    def current_stream(self) -> Stream:
        """The device's, in this thread."""
        return self.on_device.current_stream()

    def empty(
        self, shape: Sequence[int], dtype: np.dtype[Any], stream: Stream | None = None
    ) -> DeviceArray:
        """A new array on the device.

        Raises:
            UnsupportedError: a dtype that arrays there cannot have.
        """
        if not self.on_device.holds(dtype):
            raise UnsupportedError(
                f"arrays in GPU memory cannot have dtype {dtype}: {_ways_out(dtype)}"
            )
        return self.on_device.empty(shape, dtype, self._ordered(stream))

    def owns(self, array: object) -> bool:
        """Whether an array is in this device's memory."""
        return self.on_device.owns(array)

    def assign(self, out: DeviceArray, values: DeviceArray, stream: Stream | None = None) -> None:
        """`out[...] = values` on the device."""
        self.on_device.assign(out, values, self._ordered(stream))

    def begin(
        self,
        outputs: Sequence[Output],
        stream: Stream | None = None,
        stopped: Callable[[], bool] | None = None,
    ) -> CudaSession:
        """Start a read, ordered on a stream; None: the caller's current one."""
        del stopped  # a batch is not long, and none is begun once it says so
        return CudaSession(self, outputs, self._ordered(stream))

    def few(self, program: DecodeProgram, shape: tuple[int, ...]) -> FewReader | None:
        """A reader for what the host is to decode; None where the device decodes whatever comes."""
        if self.decode == "device" or self.reads_directly(program) or self._host_few is None:
            return None
        host = self._host_few(program, shape)
        return None if host is None else CudaFewReader(self, host, program, shape)

    def _ordered(self, stream: Stream | None) -> Stream:
        """The stream that work is ordered on."""
        device = self.on_device
        return device.current_stream() if stream is None else device.as_stream(stream)


def _ways_out(dtype: np.dtype[Any]) -> str:
    """What to do instead."""
    ways = ['device="cpu" gives NumPy arrays']
    if dtype.names is not None:
        fields = ", ".join(map(repr, dtype.names))
        ways.append(f"a field can be read alone ({fields})")
    elif dtype.kind in "mM":
        ways.append('dtype="int64" reads the numbers that they are')
    elif type_name(dtype) is not None:
        ways.append('dtype="float32" or another of NumPy\'s types converts them')
    return "; ".join(ways)
