"""`Array.explain`: hops 4 to 7 of a read, run for their numbers alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.engines.engine import ChoosesPlaces
from gpuzarr.engines.recording import RecordingEngine
from gpuzarr.errors import GpuzarrError, MemoryLimitError
from gpuzarr.few import places_of_few
from gpuzarr.locate import object_keys
from gpuzarr.plan.chunk_table import count_at_least, plan_chunks
from gpuzarr.read import EngineShare, Part, read_share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpuzarr.engines.engine import PlacesReport
    from gpuzarr.engines.recording import RecordingSession
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.selection import Selection
    from gpuzarr.source import ArraySource

NOTED_WASTE = 4.0
"""Bytes decoded for each needed, from which on `explain` says so..."""
NOTED_NBYTES = 1 << 20
"""... where at least this many are decoded."""
NOTED_REQUESTS = 1000
"""Requests from which on their size matters."""
SMALL_REQUEST_NBYTES = 1 << 14
NOTED_CHUNK_NBYTES = 1 << 26
"""Decoded bytes of a single chunk that are worth more than one thread."""

MOST_CHUNKS = 1 << 22
"""Each chunk of a read that is explained is looked at, and takes some memory."""

ASKED_OBJECTS = 256
"""Objects whose size is asked of the store; of more, the sizes are an estimate by these."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a read would do. Sizes are in bytes."""

    array: str
    shape: tuple[int, ...]
    """Shape of the result."""
    needed_nbytes: int
    """Size of the result in the stored type."""
    chunks: int
    """Chunks that the selection touches."""
    missing_chunks: int
    """Of these, chunks that are not stored and read as the fill value; where each chunk is an
    object, and there are some hundreds, estimated from the first."""
    objects: int
    """Stored objects that are read."""
    requests: int
    """Byte ranges asked of the store."""
    fetched_nbytes: int | None
    """Encoded bytes, of whole chunks; None where only reading would tell."""
    decoded_nbytes: int
    """Bytes of all these chunks; more than `needed_nbytes` where they are only partly needed."""
    batches: int
    scratch_nbytes: int
    """Memory held beyond the result, about: the largest chunk, encoded and decoded, for each batch
    that runs at once."""
    engine: str
    in_parts: bool
    """Whether bytes of large chunks that are not needed are left out, as the CPU does with Blosc,
    zstd and chunks that are stored as they are, where it can. These bytes are counted here."""
    steps: tuple[str, ...]
    """How a chunk is decoded, in order."""
    notes: tuple[str, ...]
    """Why a faster way was not taken, why every value may be the fill value."""
    places: PlacesReport | None = None
    """Which side decodes, and how long either would take; None where there is no choice."""

    @property
    def decode_waste(self) -> float:
        """Bytes decoded for each byte needed; 1.0 is best."""
        return self.decoded_nbytes / self.needed_nbytes if self.needed_nbytes else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The same, for machines."""
        return {**asdict(self), "decode_waste": self.decode_waste}

    def __str__(self) -> str:
        most = "at most " if self.in_parts and self.decode_waste > 1 else ""
        decoded = f"{most}{self.decoded_nbytes:,} bytes"
        fetched = "unknown"
        if self.fetched_nbytes is not None:
            fetched = f"{most}{self.fetched_nbytes:,} bytes"
        lines = [
            f"array     {self.array}",
            f"result    {self.shape}, {self.needed_nbytes:,} bytes",
            f"chunks    {self.chunks:,}, of which {self.missing_chunks:,} are not stored",
            f"fetch     {fetched} in {self.requests:,} requests to {self.objects:,} objects",
            f"decode    {decoded}, {self.decode_waste:.2f} for each needed",
            f"steps     {' -> '.join(self.steps) or 'none: chunks are stored as they are'}",
            f"batches   {self.batches:,}, with {self.scratch_nbytes:,} bytes of scratch at most",
            f"engine    {self.engine}",
        ]
        if self.places is not None:
            lines.append(f"place     {_placed(self.places)}")
        return "\n".join([*lines, *(f"note      {note}" for note in self.notes)])

    __repr__ = __str__


def _placed(places: PlacesReport) -> str:
    """Which side decodes, in words."""
    host, device = places.host_batches, places.device_batches
    if host and device:
        sides = f"{device:,} batches on the device, {host:,} on the host"
    else:
        sides = "on the host" if host else "on the device"
    return (
        f"{sides}: {places.device_ms:.2f} ms by the device, {places.host_ms:.2f} ms by the host,"
        f" estimated; {places.why}"
    )


def explain_selection(source: ArraySource, selection: Selection) -> Explanation:
    """Plan, locate and batch a read, with an engine that runs nothing.

    Raises:
        MemoryLimitError: it is of too many chunks.
    """
    program = source.codecs.program
    _check_count(count_at_least(selection, source.chunks))
    plan = plan_chunks(selection, source.chunks, program.layout.dtype.itemsize)
    _check_count(plan.nchunks)
    limits = source.engine.limits_for(program)
    described = source.engine.describe(program)
    engine = RecordingEngine(limits)
    session = engine.begin(())
    dry = replace(source, engine=engine)
    read_share(EngineShare(engine, (), (Part((dry,), plan),)), session)
    keys = object_keys(source, plan.first_coords(3))
    largest = max(
        (int((b.chunks.decoded_nbytes + np.maximum(b.nbytes, 0)).max()) for b in session.batches),
        default=0,
    )
    filled = sum(len(pieces) for pieces in session.filled)
    absent, sizes = _sizes(source, session)
    missing = filled + absent
    objects = {key for batch in session.batches for key in batch.requests.keys}
    decoded = sum(int(batch.chunks.decoded_nbytes.sum()) for batch in session.batches)
    fetched = sum(len(batch.chunks) for batch in session.batches)
    if absent:  # each object is a chunk then
        decoded = decoded * (fetched - absent) // fetched
    report = Explanation(
        array=f"{source.path or '/'} in {source.store.name}",
        shape=selection.shape,
        needed_nbytes=selection.size * source.metadata.data_type.dtype.itemsize,
        chunks=plan.nchunks,
        missing_chunks=missing,
        objects=len(objects) - absent,
        requests=sum(len(batch.requests) for batch in session.batches),
        fetched_nbytes=sizes,
        decoded_nbytes=decoded,
        batches=len(session.batches),
        scratch_nbytes=largest * min(limits.parallel, len(session.batches)),
        engine=source.engine.name,
        in_parts=described.in_parts,
        steps=described.steps,
        notes=(),
        places=_places(source, selection, session),
    )
    notes = (
        *_damage(session.failures),
        *_all_fill(source, report, keys),
        *_slow(source, report, in_parts=described.in_parts),
        *described.notes,
    )
    return replace(report, notes=notes)


def _places(
    source: ArraySource, selection: Selection, session: RecordingSession
) -> PlacesReport | None:
    """Where an engine that has a choice decodes."""
    if not isinstance(source.engine, ChoosesPlaces):
        return None
    few = places_of_few(source, selection)
    return few or source.engine.places(source.codecs.program, session.batches)


def _check_count(nchunks: int) -> None:
    if nchunks > MOST_CHUNKS:
        raise MemoryLimitError(
            f"this read is of {nchunks:,} chunks, more than the {MOST_CHUNKS:,} that are looked at"
            " one by one to explain it: explain a part of it"
        )


def _sizes(source: ArraySource, session: RecordingSession) -> tuple[int, int | None]:
    """How many objects are missing, and the encoded bytes of the others."""
    total = 0
    whole: list[str] = []
    for batch in session.batches:
        for key, nbytes in zip(batch.requests.keys, batch.requests.nbytes, strict=True):
            if nbytes < 0:
                whole.append(key)
            else:
                total += nbytes
    sizes = [source.store.size(key) for key in whole[:ASKED_OBJECTS]]
    known = [size for size in sizes if size is not None]
    if not whole:
        return 0, total
    share = len(whole) / len(sizes)
    missing = round((len(sizes) - len(known)) * share)
    return missing, total + round(sum(known) * share)


def _slow(source: ArraySource, report: Explanation, *, in_parts: bool) -> Iterable[str]:
    """Why a read takes longer than its result is large."""
    if report.decode_waste >= NOTED_WASTE and report.decoded_nbytes >= NOTED_NBYTES:
        waste, shape = f"{report.decode_waste:.0f} bytes", _chunk_shape(source)
        yield (
            f"chunks have shape {shape} and hold {waste} for each that is needed; what can be left"
            " out of them is, but one larger read that is cut in memory costs less than many"
            if in_parts
            else f"{waste} are decoded for each that is needed, since chunks are decoded whole and"
            f" have shape {shape}; one larger read that is cut in memory costs less than many"
        )
    there = report.requests - (report.missing_chunks if source.codecs.shard is None else 0)
    if there >= NOTED_REQUESTS and report.fetched_nbytes is not None:
        average = report.fetched_nbytes // there
        if average <= SMALL_REQUEST_NBYTES:
            yield (
                f"a request brings {average:,} bytes on average, so finding chunks costs more than"
                " decoding them; larger chunks, or shards, read faster"
            )
    if report.chunks == 1 and report.decoded_nbytes >= NOTED_CHUNK_NBYTES:
        yield "the read is one large chunk, which one thread decodes while the others wait"


def _chunk_shape(source: ArraySource) -> tuple[int, ...]:
    """The shape of the array's first chunk."""
    first = np.zeros(1, np.int64)
    return tuple(int(axis.size_of(first)[0]) for axis in source.chunks)


def _all_fill(source: ArraySource, report: Explanation, keys: Sequence[str]) -> Iterable[str]:
    """Why every value is the fill value."""
    if report.chunks and report.missing_chunks == report.chunks:
        yield f"no chunk is stored, so every value is the fill value; looked for {', '.join(keys)}"
        other = _other_separator(source, keys)
        if other:
            yield (
                f"but {other!r} exists: the chunks were written with another dimension separator"
                " than the metadata say"
            )


def _other_separator(source: ArraySource, keys: Sequence[str]) -> str | None:
    """A chunk's key under the other separator, where such an object exists."""
    encoding = source.metadata.chunk_key_encoding
    start = len(source.path) + 1 if source.path else 0
    other = "." if encoding.separator == "/" else "/"
    for key in keys:
        name = key[start:].replace(encoding.separator, other)
        candidate = key[:start] + name
        try:
            if candidate != key and source.store.size(candidate) is not None:
                return candidate
        except GpuzarrError:
            continue
    return None


def _damage(failures: Sequence[ChunkFailure]) -> Iterable[str]:
    if failures:
        yield f"{len(failures):,} chunks cannot be found, so that a read will fail: {failures[0]}"
