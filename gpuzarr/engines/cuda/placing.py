"""Where batches are decoded with decode="auto": the cost model, asked batch by batch.

A small batch is decoded on the host, a large one on the device, and of a read of many batches that
both sides decode about as fast, the host takes some while the device works on the others: the pool
decodes them when they are fetched, and they join the row of uploads at their turn.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.cost import DOUBT, BatchFacts, estimate, host_share
from gpuzarr.engines.cuda.device_program import DeviceProgram
from gpuzarr.engines.cuda.tuning import STREAM_NBYTES, UNKNOWN_RATIO
from gpuzarr.engines.engine import PlacesReport
from gpuzarr.program import VerifyChecksum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.engines.cuda.cost import Estimate, Side
    from gpuzarr.engines.cuda.tuning import Rates
    from gpuzarr.plan.batches import Batch

log = logging.getLogger("gpuzarr.engine")


def facts_of(cut: DeviceProgram, batch: Batch, threads: int) -> BatchFacts | None:
    """What the cost model asks of a batch; None where the device decompresses nothing of it.

    Args:
        cut: which steps the device would run.
        batch: located, not read yet.
        threads: of the host, that decode.
    """
    step = cut.decompress
    if step is None or not len(batch.chunks):
        return None
    decoded = batch.chunks.decoded_nbytes
    encoded = np.where(batch.nbytes < 0, decoded / UNKNOWN_RATIO, batch.nbytes)
    largest = int(decoded.max())
    return BatchFacts(
        step.format,
        chunks=len(batch.chunks),
        requests=len(batch.requests),
        encoded_nbytes=int(encoded.sum()),
        decoded_nbytes=int(decoded.sum(dtype=np.float64)),
        largest_stream=min(largest, STREAM_NBYTES.get(step.format, largest)),
        filters=sum(not isinstance(each, VerifyChecksum) for each in cut.steps) - 1,
        threads=threads,
    )


class Places:
    """The sides that decode one read's batches."""

    def __init__(self, rates: Rates, threads: int) -> None:
        """Begin a read.

        Args:
            rates: of the machine.
            threads: of the host, that decode.
        """
        self._rates = rates
        self._threads = threads
        self._due = 0.0
        """Batches that the host is due, by its share of those before."""

    def cut(self, cut: DeviceProgram, batch: Batch) -> DeviceProgram:
        """Which steps of the next batch's program run where.

        Args:
            cut: the device's part, where it decodes.
            batch: the batch.
        """
        facts = facts_of(cut, batch, self._threads)
        if facts is None:
            return cut
        found = estimate(facts, self._rates)
        side = self.side(found)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("place: a batch of %d chunks on the %s; %s", facts.chunks, side, _ms(found))
        return DeviceProgram(cut.program, len(cut.program.steps)) if side == "host" else cut

    def side(self, found: Estimate) -> Side:
        """Who decodes the next batch."""
        share = host_share(found)
        if share == 1.0:
            return "host"
        self._due += share
        if self._due < 1.0:
            return "device"
        self._due -= 1.0
        return "host"


def report_places(
    cut: DeviceProgram, batches: Sequence[Batch], rates: Rates, threads: int
) -> PlacesReport | None:
    """What a read of these batches would do; None where there is nothing to choose."""
    every = [facts for batch in batches if (facts := facts_of(cut, batch, threads)) is not None]
    if not every:
        return None
    places = Places(rates, threads)
    found = [estimate(facts, rates) for facts in every]
    sides = [places.side(each) for each in found]
    return PlacesReport(
        host_batches=sides.count("host"),
        device_batches=sides.count("device"),
        host_ms=1e3 * sum(each.host_s for each in found),
        device_ms=1e3 * sum(each.device_s for each in found),
        why=_why(sides),
    )


def _why(sides: Sequence[Side]) -> str:
    """The rule that decided."""
    if "device" not in sides:
        return f"the host is more than {DOUBT:g} times as fast"
    if "host" not in sides:
        return f"the host is not more than {DOUBT:g} times as fast"
    return "both decode at the same time, or batches are of different sizes"


def _ms(found: Estimate) -> str:
    return f"estimated: {1e3 * found.host_s:.2f} ms by host, {1e3 * found.device_s:.2f} by device"
