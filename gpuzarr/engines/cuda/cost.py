"""What a batch costs on either side: from its size and the tables, without touching anything.

    host        chunks * fixed + bytes / (rate of so many cores); then the decoded bytes are
                uploaded
    device      fixed; the encoded bytes are uploaded; then the largest stream / (rate of one)
                + bytes / (rate of many)

Reading and the scatter are the same on both sides. An estimate may be wrong by `DOUBT`. So what is
done by default, decoding on the device, is left only where the host is faster by more than that;
and where both work at once, the host gets no more than it can do if it is so much slower than
estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.tuning import Rates

Side = Literal["host", "device"]

DOUBT = 2.0
"""By how much an estimate may be wrong."""
SLOWEST_HELPER = 2.0
"""How much longer than the device the host may take for a batch and still help: it must be done
before the device has run out of the batches that were read meanwhile."""


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """What is known of a batch before it is read."""

    codec: str
    """One of `tuning.CODECS`."""
    chunks: int
    requests: int
    """Ranges that are read; the chunks of one are decoded by one thread."""
    encoded_nbytes: int
    decoded_nbytes: int
    largest_stream: int
    """Decoded bytes of the largest stream that nvCOMP is given."""
    filters: int = 0
    """Steps besides the decompression."""
    threads: int = 1
    """Threads of the host that decode."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that a batch takes."""

    host_s: float
    """From its bytes in host memory to decoded ones on the device, if the host decodes it..."""
    device_s: float
    """...and if the device does."""
    host_busy_s: float
    """For how long the slower of decoding and uploading keeps the host's side busy, so what each of
    many batches takes that overlap..."""
    device_busy_s: float
    """...and the device's."""
    read_s: float
    """For how long the host is busy with reading it, whoever decodes it."""


def cores_rate(threads: int, further_core: float) -> float:
    """How many times the rate of one core so many have.

    >>> cores_rate(1, 0.5), cores_rate(16, 0.5)
    (1.0, 8.5)
    """
    return 1.0 + further_core * (max(threads, 1) - 1)


def estimate(facts: BatchFacts, rates: Rates) -> Estimate:
    """How long a batch takes on either side.

    One chunk of 64 KiB is decoded before nvCOMP has begun, a thousand of 1 MiB are not:

    >>> from gpuzarr.engines.cuda.tuning import DEFAULTS
    >>> small = estimate(BatchFacts("zstd", 1, 1, 1 << 15, 1 << 16, 1 << 16), DEFAULTS)
    >>> f"{1e3 * small.host_s:.2f} ms, {1e3 * small.device_s:.2f} ms"
    '0.08 ms, 1.01 ms'
    >>> facts = BatchFacts("zstd", 1000, 1000, 1 << 29, 1 << 30, 1 << 20, threads=4)
    >>> many = estimate(facts, DEFAULTS)
    >>> f"{1e3 * many.host_s:.0f} ms, {1e3 * many.device_s:.0f} ms"
    '482 ms, 62 ms'

    Args:
        facts: of the batch.
        rates: of the machine.
    """
    codec = rates.codecs[facts.codec]
    threads = min(facts.threads, max(facts.requests, 1))
    cores = cores_rate(threads, rates.further_core)
    nbytes = facts.decoded_nbytes
    of_a_byte = 1.0 / codec.host + facts.filters / rates.filters
    host = facts.chunks * rates.chunk_s + nbytes * of_a_byte / cores
    host_upload = nbytes / rates.upload
    device = rates.batch_s + facts.largest_stream / codec.stream + nbytes / codec.device
    device_upload = facts.encoded_nbytes / rates.upload
    return Estimate(
        host + host_upload,
        device + device_upload,
        max(host, host_upload),
        max(device, device_upload),
        facts.encoded_nbytes / rates.read,
    )


def choose(estimate: Estimate) -> Side:
    """Where a batch is decoded that is alone.

    >>> choose(Estimate(1.0, 2.1, 1.0, 2.1, 0.0)), choose(Estimate(1.0, 1.9, 1.0, 1.9, 0.0))
    ('host', 'device')
    """
    return "host" if DOUBT * estimate.host_s < estimate.device_s else "device"


def host_share(estimate: Estimate) -> float:
    """Which part of many equal batches the host decodes, so that both sides end together.

    The host reads all of them, and counts as slower by `DOUBT`. 1.0 where it is to decode even one
    that is alone; 0.0 where it is so slow, or so busy with reading, that it would be waited for.

    >>> host_share(Estimate(1.0, 1.0, 1.0, 1.0, 0.0))  # equally fast: a third, for the doubt
    0.3333333333333333
    >>> host_share(Estimate(5.0, 1.0, 5.0, 1.0, 0.0))
    0.0
    """
    if choose(estimate) == "host":
        return 1.0
    host, device, read = estimate.host_busy_s, estimate.device_busy_s, estimate.read_s
    if host > SLOWEST_HELPER * device or read >= device:
        return 0.0
    return (device - read) / (DOUBT * host + device)
