"""The CPU engine's decoders: one chunk of anyone's bytes, of every codec and container.

The first byte of an input chooses among a target's programs and chunk shapes, the others are the
chunk. It is decoded into places full of zeros and of ones, into no place, and beside sound chunks:
always with the same answer, so that nothing of it comes from memory that nobody wrote.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

from gpuzarr.codecs.lower import lower
from gpuzarr.engines.cpu.decoder import ChunkDecoder
from gpuzarr.engines.cpu.prepared import Frames
from gpuzarr.engines.step_error import StepError
from gpuzarr.metadata import v2, v3
from gpuzarr.metadata.model import RegularGrid
from tests.hostile.fuzz.target import Outcome, Target, refused
from tests.hostile.fuzz.targets import chunks, object_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

MANY = 13
"""Chunks that are decoded in one call."""


@dataclass
class Prepared:
    """A case, and what decodes its chunks."""

    case: chunks.Case
    decoder: ChunkDecoder
    nbytes: int | None
    """Of a decoded chunk; None for objects."""
    in_order: bool
    """Whether a place holds the elements in the array's order."""
    good: memoryview
    """A sound chunk."""


class Decoding:
    """The check and the seeds of a target, whose cases are made when they are first needed."""

    def __init__(self, make: Callable[[], list[chunks.Case]]) -> None:
        """Make nothing yet."""
        self._make = make
        self._prepared: list[Prepared] = []

    @property
    def prepared(self) -> list[Prepared]:
        """All cases."""
        if not self._prepared:
            self._prepared = [_prepare(case) for case in self._make()]
        return self._prepared

    def forget(self) -> None:
        """Prepare anew."""
        self._prepared = []

    def seeds(self) -> list[bytes]:
        """Each sound chunk of each case."""
        return [
            bytes([number]) + chunk
            for number, each in enumerate(self.prepared)
            for chunk in each.case.sound
        ]

    def check(self, data: bytes) -> Outcome:
        """A chunk is decoded, always to the same, or refused."""
        each = self.prepared[(data[0] if data else 0) % len(self.prepared)]
        chunk = data[1:]
        error, due = _decode(each, chunk, None)
        if each.nbytes is not None:
            _decode_otherwise(each, chunk, due)
        if each.case.reference is not None:
            _compare(each, chunk, due)
        return "right" if error is None else refused(error)


def _prepare(case: chunks.Case) -> Prepared:
    parse = v3.parse_array if case.document["zarr_format"] == 3 else v2.parse_array
    metadata = parse(case.document)
    assert isinstance(metadata.chunk_grid, RegularGrid)
    shape = metadata.chunk_grid.chunk_shape
    program = lower(metadata).program
    layout = program.layout
    decoder = ChunkDecoder(program, shape)
    decoder.decode(memoryview(case.sound[0]))  # or it would not be sound
    return Prepared(
        case,
        decoder,
        None if layout.dtype.hasobject else prod(shape) * layout.dtype.itemsize,
        layout.c_order,
        memoryview(case.sound[0]),
    )


def _decode(
    each: Prepared, chunk: bytes, place: memoryview | None
) -> tuple[StepError | None, bytes | str | None]:
    """The error, or the elements."""
    try:
        values = each.decoder.decode(memoryview(chunk), place)
    except StepError as error:
        return error, None
    return None, _elements(values)


def _elements(values: np.ndarray[Any, Any]) -> bytes | str:
    """Bytes, copied, since scratch is used again; objects as text, in which NaN is NaN."""
    if not values.dtype.hasobject:
        return values.tobytes()
    try:
        return repr(values.tolist())
    except RecursionError:
        return "nested too deep"


def _decode_otherwise(each: Prepared, chunk: bytes, due: bytes | str | None) -> None:
    """Into places that were full of something, again, and beside others."""
    for filling in (b"\0", b"\xff"):
        place = bytearray(filling * (each.nbytes or 0))
        error, found = _decode(each, chunk, memoryview(place))
        assert found == due, f"another answer with a place: {error}"
        if due is not None and each.in_order:
            assert bytes(place) == due, "the place holds something else"
    if not each.decoder.takes_many:
        return
    good = bytes(each.good)
    for many, at in (([chunk] * MANY, 0), ([*[good] * MANY, chunk, good], MANY)):
        frames = Frames.between(memoryview(b"".join(many)), list(accumulate(map(len, many))))
        try:
            found_many = each.decoder.decode_many(frames)
        except StepError:
            assert due is None, "refused among others"
        else:
            assert due is not None, "read among others"
            assert _elements(found_many[at]) == due, "another answer among others"


def _compare(each: Prepared, chunk: bytes, found: bytes | str | None) -> None:
    """What another library makes of it, where it makes anything."""
    assert each.case.reference is not None
    try:
        made = each.case.reference(chunk)
    except Exception:  # noqa: BLE001  each library has errors of its own
        return
    due = bytes(made) if not isinstance(made, list) else repr(made)
    if each.nbytes is not None and len(due) != each.nbytes:
        assert found is None, f"read, where the reference gives {len(due)} bytes"
    elif found is not None:
        assert found == due, "the reference reads something else"
    else:
        assert not each.case.strict, "refused, where the reference reads it"


TOKENS = (
    *(
        b"\x28\xb5\x2f\xfd",
        b"\x1f\x8b\x08",
        b"BZh9",
        b"\xfd7zXZ\0",
        b"\xff" * 4,
        b"\0" * 4,
        b"\xff" * 8,
    ),
    *(
        b"\xff\xff\xff\x7f",
        b"\0\0\0\x80",
        b"[",
        b"]",
        b'"',
        b"NaN",
        b'"|O"',
        b"null",
        b"{}",
        b"1e999",
    ),
    *(
        b"[2, 2]",
        b'"<U0"',
        b'"|S9999"',
        b'"|O", [6]]',
        b"\xdd\xff\xff\xff\xff",
        b"\xc7",
        b"zfp\x05",
    ),
)


LONGEST = {"text": 50_000, "objects": 50_000}
"""Inputs of formats in which much can be said with little are longer."""


def _target(name: str, make: Callable[[], list[chunks.Case]], inputs: int) -> Target:
    decoding = Decoding(make)
    longest = LONGEST.get(name, 4_096)
    return Target(f"decode-{name}", decoding.check, decoding.seeds, inputs, TOKENS, longest=longest)


TARGETS = tuple(
    _target(name, make, inputs)
    for name, make, inputs in (
        ("zstd", chunks.zstd, 800),
        ("gzip", chunks.gzip_and_zlib, 600),
        ("lz4", chunks.lz4, 600),
        ("blosc", chunks.blosc, 800),
        ("bz2", chunks.bz2_and_lzma, 300),
        ("checksums", chunks.checksums, 400),
        ("filters", chunks.filters, 800),
        ("text", object_chunks.text, 800),
        ("objects", object_chunks.objects, 800),
        ("numbers", object_chunks.numbers, 500),
        ("containers", object_chunks.containers, 500),
    )
)
