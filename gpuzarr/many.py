"""`read_batch`: many selections, of several arrays, as one read.

Every chunk that any of the selections needs is fetched once, decoded once, and scattered to every
place that needs it. Selections whose results are stacked and that are cut in the same way go to one
output, whose first axis counts them, so that nothing is done selection by selection.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpuzarr.array import Array, IndexingMethod, normalize_key
from gpuzarr.engines.conversion import check_out
from gpuzarr.engines.engine import Output
from gpuzarr.errors import GpuzarrError
from gpuzarr.pending import (
    Copy,
    NamedErrors,
    PendingRead,
    Request,
    common_place,
    copies_to,
)
from gpuzarr.plan.chunk_table import plan_chunks
from gpuzarr.plan.joint import JointPlan, Wanted
from gpuzarr.plan.selection import Span
from gpuzarr.read import EngineShare, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from gpuzarr.chunk_cache import ChunkCache
    from gpuzarr.engines.engine import DeviceArray, Engine
    from gpuzarr.errors import ChunkFailure
    from gpuzarr.plan.selection import Selection
    from gpuzarr.program import DecodeProgram
    from gpuzarr.source import ArraySource
    from gpuzarr.stores.store import Store

    Place = Array | IndexingMethod


def read_batch(  # noqa: PLR0913  as `Array.read`
    requests: Iterable[tuple[Place, Any]],
    *,
    out: DeviceArray | Sequence[DeviceArray] | None = None,
    dtype: Any = None,
    scale: float | None = None,
    offset: float | None = None,
    stream: Any = None,
) -> Any:
    """Read many selections at once, of one array or of several: each chunk is decoded once.

    >>> array = gpuzarr.open_array(store, path="temperature")
    >>> gpuzarr.read_batch([(array, (0, slice(2))), (array, (3, slice(4, 6)))])
    array([[ 0.,  1.],
           [22., 23.]], dtype=float32)

    Args:
        requests: pairs of an array and a key as in `array[key]`; with `array.oindex`,
            `array.vindex` or `array.blocks` in the array's place, the key means what it means
            there.
        out: where to write: one array of shape (n, ...) for n results of one shape, or a sequence
            of n arrays. Strided is fine; contents are undefined after an error.
        dtype: of the results; default that of `out`, else each array's own.
        scale: multiply every value by this; see `Array.read`.
        offset: add this to every scaled value.
        stream: as in `Array.read`, for results on a GPU.

    Returns:
        `out`; or one new C-contiguous array of shape (n, ...) where all results have one shape,
        dtype and device; else a list of n arrays.

    Raises:
        SelectionError: a key does not fit its array; the message says which.
        ChunkError: chunks are damaged; `.failures` names each, and the selections that need it.
        StoreError: the storage failed.
        UnsupportedError: a codec or conversion that is not available.
        MemoryLimitError: the results do not fit into memory.
        ValueError: `out` does not fit the results.
    """
    if isinstance(out, (list, tuple)) and any(each is None for each in out):
        raise ValueError("out= is a list with None in it: give an array for each result")
    made = make_requests(requests, out=out, dtype=dtype, scale=scale, offset=offset)
    kinds = {(r.selection.shape, r.conversion.result, r.source.engine.device) for r in made}
    streams = {request.source.engine.device: stream for request in made}
    if len(kinds) == 1 and not isinstance(out, (list, tuple)):
        outs = None if out is None else [out]
        return start_batch(made, [len(made)], outs=outs, streams=streams).result()[0]
    if out is not None and not isinstance(out, (list, tuple)):
        if not made and not len(out):
            return out
        raise ValueError(
            "out= is one array, but the results have different shapes, dtypes or devices; give a"
            " list of arrays"
        )
    results = start_batch(made, outs=out, streams=streams).result()
    return results if out is None else out


def make_request(
    place: Place,
    key: Any,
    *,
    dtype: Any = None,
    scale: float | None = None,
    offset: float | None = None,
) -> Request:
    """What `place[key]` reads, checked and not started: hop 4."""
    array, normalize = (
        (place, normalize_key) if isinstance(place, Array) else (place._array, place._normalize)  # noqa: SLF001
    )
    return array._request(normalize, key, dtype=dtype, scale=scale, offset=offset)  # noqa: SLF001


def make_requests(
    requests: Iterable[tuple[Place, Any]],
    *,
    out: Any = None,
    dtype: Any = None,
    scale: float | None = None,
    offset: float | None = None,
) -> list[Request]:
    """Hop 4 for each selection; the arguments are those of `read_batch`."""
    made: list[Request] = []
    outs: Sequence[Any] | None = out if isinstance(out, (list, tuple)) else None
    wished = dtype if dtype is not None or outs is not None else getattr(out, "dtype", None)
    for number, pair in enumerate(requests):
        try:
            place, key = pair
        except (TypeError, ValueError):
            raise TypeError(f"request {number} is no pair of an array and a key") from None
        if not isinstance(place, (Array, IndexingMethod)):
            raise TypeError(
                f"request {number} is of a {type(place).__name__}, not of a gpuzarr.Array (or its"
                " oindex, vindex, blocks)"
            )
        due = wished
        if due is None and outs is not None and number < len(outs):
            due = getattr(outs[number], "dtype", None)
        try:
            made.append(make_request(place, key, dtype=due, scale=scale, offset=offset))
        except GpuzarrError as error:
            named = copy(error)  # the array may keep it, and raise it again
            named.message = f"selection {number}: {error.message}"
            raise named from error
    return made


def start_batch(  # noqa: PLR0913  everything that a read is made of
    requests: Sequence[Request],
    stacks: Sequence[int] | None = None,
    *,
    outs: Sequence[DeviceArray] | None = None,
    streams: Mapping[str, Any] | None = None,
    stopped: Callable[[], bool] | None = None,
    caches: Mapping[int, ChunkCache] | None = None,
) -> PendingRead:
    """Start the read of many selections, whose result is a list of arrays.

    Args:
        requests: what to read.
        stacks: how many results after another lie in one array, (n, ...) each; they must have one
            shape, dtype and device. None: each result is an array of its own.
        outs: the arrays to write to.
        streams: for each device what the work is ordered on.
        stopped: whether to give up the read; asked often, in any thread.
        caches: decoded chunks that are kept, by the `id` of their `ArraySource`.
    """
    streams = {} if streams is None else streams
    sources = {id(request.source): request.source for request in requests}
    with NamedErrors(*common_place(list(sources.values()))):
        results = _Results()
        due = len(requests) if stacks is None else len(stacks)
        if outs is not None and len(outs) != due:
            raise ValueError(f"out= has {len(outs)} arrays for {due} selections")
        if stacks is None:
            for number, request in enumerate(requests):
                results.add(request, None if outs is None else outs[number], streams)
        else:
            first = 0
            for number, count in enumerate(stacks):
                some = requests[first : first + count]
                results.add_stack(some, None if outs is None else outs[number], streams)
                first += count
        shares = [
            _share(engine, requests, rows, results, caches or {}, streams.get(engine.device))
            for engine, rows in _by_engine(requests)
        ]
        return PendingRead(
            shares,
            results.arrays,
            copies=results.copies,
            stopped=stopped,
            explain_failure=_Finder(requests),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where a result goes."""

    array: DeviceArray
    """What is written to."""
    number: int | None
    """Which of the results in it; None: it is the only one."""


class _Results:
    """Where results go: arrays of their own, or stacks."""

    def __init__(self) -> None:
        self.arrays: list[DeviceArray] = []
        self.places: list[_Place] = []
        self.copies: list[Copy] = []

    def add(self, request: Request, out: DeviceArray | None, streams: Mapping[str, Any]) -> None:
        """A result alone."""
        engine, shape = request.source.engine, request.selection.shape
        stream = streams.get(engine.device)
        if out is None:
            out = engine.empty(shape, request.conversion.result, stream)
        else:
            try:
                check_out(out, shape, request.conversion, engine)
            except ValueError as error:
                raise ValueError(f"out[{len(self.arrays)}]: {error}") from None
        view = out.reshape(request.selection.canonical_shape)
        self.copies += copies_to(engine, out, view, shape, stream)
        self.arrays.append(out)
        self.places.append(_Place(view, None))

    def add_stack(
        self, requests: Sequence[Request], out: DeviceArray | None, streams: Mapping[str, Any]
    ) -> None:
        """Results that lie in one array."""
        first, count = requests[0], len(requests)
        engine, dtype = first.source.engine, first.conversion.result
        shape, stream = (count, *first.selection.shape), streams.get(engine.device)
        if out is None:
            stack = out = engine.empty(shape, dtype, stream)
        else:
            check_out(out, shape, first.conversion, engine)
            stack = out
            views = {request.selection.canonical_shape for request in requests}
            if any(
                copies_to(engine, out, out.reshape((count, *view)), shape, stream) for view in views
            ):
                stack = engine.empty(shape, dtype, stream)
                self.copies.append(Copy(engine, out, stack, stream))
        self.arrays.append(out)
        self.places += [_Place(stack, number) for number in range(count)]


def _by_engine(requests: Sequence[Request]) -> list[tuple[Engine, list[int]]]:
    """The selections of each engine, by their numbers."""
    found: dict[int, tuple[Engine, list[int]]] = {}
    for number, request in enumerate(requests):
        engine = request.source.engine
        found.setdefault(id(engine), (engine, []))[1].append(number)
    return list(found.values())


def _share(  # noqa: PLR0913, PLR0917  everything that an engine needs
    engine: Engine,
    requests: Sequence[Request],
    rows: Sequence[int],
    results: _Results,
    caches: Mapping[int, ChunkCache],
    stream: Any,
) -> EngineShare:
    """What an engine does: its outputs, and a part for each program."""
    outputs: list[Output] = []
    known: dict[object, int] = {}
    parts: dict[DecodeProgram, tuple[list[ArraySource], list[Wanted]]] = {}
    kinds: dict[object, int] = {}
    homes: dict[int, tuple[int, int, list[Wanted]]] = {}
    for number in rows:
        request, place = requests[number], results.places[number]
        source, selection = request.source, request.selection
        home = homes.get(id(source))
        if home is None:
            sources, wanted = parts.setdefault(source.codecs.program, ([], []))
            kind_of_source = kinds.setdefault(_kind_of_source(source), len(kinds))
            home = homes[id(source)] = (len(sources), kind_of_source, wanted)
            sources.append(source)
        array, kind_of_source, wanted = home
        axes = selection.axes
        spans = tuple([(axis.dim, axis.step) for axis in axes if isinstance(axis, Span)])
        together = place.number is not None and len(spans) == len(axes)
        kind = (
            (id(place.array), kind_of_source, request.conversion, spans, selection.canonical_shape)
            if together
            else number
        )
        output = known.get(kind)
        if output is None:
            output = known[kind] = len(outputs)
            view = _view(place, selection, together=together)
            outputs.append(Output(view, source.fill, request.conversion))
        wanted.append(Wanted(array, selection, output, place.number if together else None))
    uses = []
    for sources, _ in parts.values():
        mine = []
        for array, source in enumerate(sources):
            cache = caches.get(id(source))
            if cache is not None and cache.output is not None:
                mine.append(cache.begin(array, len(outputs)))
                outputs.append(cache.output)
        uses.append(mine)
    return EngineShare(
        engine,
        outputs,
        [
            Part(
                sources,
                JointPlan(
                    wanted,
                    [source.chunks for source in sources],
                    len(outputs),
                    program.layout.dtype.itemsize,
                ),
                use,
            )
            for (program, (sources, wanted)), use in zip(parts.items(), uses, strict=True)
        ],
        stream,
    )


def _view(place: _Place, selection: Selection, *, together: bool) -> DeviceArray:
    """What is written to for a selection, or for all of a stack that are like it."""
    if place.number is None:
        return place.array
    if together:
        return place.array.reshape((len(place.array), *selection.canonical_shape))
    # `...` keeps results without dimensions arrays, which are written to.
    return place.array[place.number, ...].reshape(selection.canonical_shape)


def _kind_of_source(source: ArraySource) -> object:
    """Arrays that have this in common may be written to one output."""
    fill = source.fill
    variable = fill.dtype.hasobject or fill.dtype.kind == "T"
    return source.codecs.program, id(source) if variable else fill.tobytes()


class _Finder:
    """Finds the selections that need a failed chunk."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._requests = requests
        self._rows: dict[int, list[tuple[tuple[int, ...], set[tuple[int, ...]]]]] = {}

    def __call__(self, failure: ChunkFailure, store: Store) -> ChunkFailure:
        """The failure, in a store, with the numbers of these selections."""
        numbers = tuple(
            number
            for number, request in enumerate(self._requests)
            if request.source.store is store
            and _may_be_of(failure, request.source)
            and self._touches(number, failure.coords)
        )
        return replace(failure, requests=numbers)

    def _touches(self, number: int, coords: tuple[int, ...]) -> bool:
        if number not in self._rows:
            request = self._requests[number]
            plan = plan_chunks(request.selection, request.source.chunks, 1)
            self._rows[number] = [
                (axis.axis.dims, set(map(tuple, axis.chunk.tolist()))) for axis in plan.axes
            ]
        return len(coords) == len(self._requests[number].source.chunks) and all(
            tuple(coords[dim] for dim in dims) in rows for dims, rows in self._rows[number]
        )


def _may_be_of(failure: ChunkFailure, source: ArraySource) -> bool:
    """Whether a failed chunk in an array's store is one of the array's."""
    return not source.path or failure.key.startswith(f"{source.path}/")
