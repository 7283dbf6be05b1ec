"""Keys: any Python object between the brackets, and any text on the command line.

What is read is held against NumPy: basic and advanced indexing directly, `oindex`, `vindex` and
`blocks` by what they mean.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

import gpuzarr
from gpuzarr.cli.selection import parse_selection
from gpuzarr.errors import GpuzarrError, SelectionError
from tests.arrays import plain_store, sharded_store
from tests.hostile.fuzz.draw import Draw
from tests.hostile.fuzz.keys import OwnError, draw_key
from tests.hostile.fuzz.target import Outcome, Target, refused
from tests.hostile.fuzz.ways import WAYS, reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    Values = np.ndarray[Any, Any]

METHODS = ("[]", "[]", "oindex", "vindex", "blocks")
MOST_NBYTES = 1 << 16


class UnknownError(Exception):
    """There is no simple way to say what a key means."""


@cache
def places() -> list[tuple[gpuzarr.Array, Values, tuple[int, ...]]]:
    """Arrays of some shapes, their values, and the shape of their stored objects."""
    made: list[tuple[gpuzarr.Array, Values, tuple[int, ...]]] = []
    for shape, chunks in (((7,), (3,)), ((5, 4), (2, 3)), ((3, 4, 5), (2, 2, 5)), ((), ())):
        values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        made.append((gpuzarr.open_array(plain_store(values, chunks), device="cpu"), values, chunks))
    values = np.zeros((0, 3), np.int32)
    made.append((gpuzarr.open_array(plain_store(values, (2, 2)), device="cpu"), values, (2, 2)))
    values = np.arange(99, dtype=np.int32).reshape(9, 11)
    store = sharded_store(values, (4, 6), (2, 3))
    made.append((gpuzarr.open_array(store, device="cpu"), values, (4, 6)))
    return made


def check_key(data: bytes) -> Outcome:
    """One key, one way of indexing, every way of reading."""
    draw = Draw(data)
    array, values, chunks = draw.choice(places())
    method = draw.choice(METHODS)
    way = draw.choice(WAYS)
    key = draw_key(draw, array.shape)
    due = _expected(method, values, key, chunks)
    place: Any = array if method == "[]" else getattr(array, method)
    try:
        with reading(way):
            found = place[key]
    except OwnError:
        return "refused"
    except GpuzarrError as error:
        # NumPy does not look at indices where nothing is read.
        is_beside = "out of bounds" in str(error) and isinstance(due, np.ndarray) and not due.size
        if isinstance(due, np.ndarray) and not is_beside and not _is_left_out(key):
            raise AssertionError(f"refused: {error}") from error
        return refused(error)
    assert not isinstance(due, IndexError), f"read where NumPy says: {due}"
    assert type(found) is np.ndarray
    if isinstance(due, np.ndarray):
        _assert_same(found, due)
    if method == "[]":
        _read_otherwise(array, key, found)
    return "right"


def _read_otherwise(array: gpuzarr.Array, key: Any, found: Values) -> None:
    """The same into memory of the caller's, and twice in one call."""
    out = np.full((*found.shape, 2), -1, found.dtype)[..., 0]
    _assert_same(array.read(key, out=out), found)
    for each in gpuzarr.read_batch([(array, key), (array, ()), (array, key)])[::2]:
        _assert_same(each, found)
    assert str(array.explain(key))


def _assert_same(found: Values, due: Values) -> None:
    assert (found.shape, found.dtype) == (due.shape, due.dtype), (found.shape, due.shape)
    assert found.tobytes() == due.tobytes(), (found, due)


def _is_left_out(key: Any) -> bool:
    """Whether a key is what NumPy takes and gpuzarr does not.

    These are truth values as scalars, names of fields where there are none, and numbers beyond
    signed ones, which NumPy takes for negative ones.
    """
    parts = key if isinstance(key, tuple) else (key,)
    return any(
        isinstance(part, (bool, np.bool_, str))
        or (isinstance(part, np.ndarray) and part.ndim == 0 and part.dtype == bool)
        or (isinstance(part, (np.ndarray, np.uint64)) and part.dtype == np.uint64)
        for part in parts
    )


def _expected(method: str, values: Values, key: Any, chunks: Sequence[int]) -> Any:
    """The result that is due, an IndexError where there is none, None where that is not known."""
    meaning = {"[]": _index, "oindex": _oindex, "vindex": _vindex, "blocks": _blocks}[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = np.asarray(meaning(values, key, chunks))
        except UnknownError:
            return None
        except (IndexError, TypeError, ValueError, OverflowError, OwnError) as error:
            return IndexError(str(error)) if method == "[]" else None
    return None if result.nbytes > MOST_NBYTES else result


def _index(values: Values, key: Any, chunks: Sequence[int]) -> Any:
    del chunks
    return values[key]


def _expand(values: Values, key: Any) -> list[Any]:
    """One entry for each dimension: a slice, an int, or an array of integers."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if sum(part is ... for part in parts) == 1:
        at = next(i for i, part in enumerate(parts) if part is ...)
        parts[at : at + 1] = [slice(None)] * (values.ndim - len(parts) + 1)
    parts += [slice(None)] * (values.ndim - len(parts))
    if len(parts) != values.ndim:
        raise UnknownError
    entries: list[Any] = []
    for part, length in zip(parts, values.shape, strict=True):
        if isinstance(part, slice):
            np.arange(length)[part]
            entries.append(part)
        elif type(part) is int or isinstance(part, np.integer):
            entries.append(int(part))
        elif isinstance(part, list) and part and all(type(item) is int for item in part):
            entries.append(np.array(part, np.int64))
        elif isinstance(part, np.ndarray) and part.dtype.kind in "iu" and part.ndim:
            entries.append(part.astype(np.int64))
        elif isinstance(part, np.ndarray) and part.shape == (length,) and part.dtype == bool:
            entries.append(np.flatnonzero(part))
        else:
            raise UnknownError
    return entries


def _oindex(values: Values, key: Any, chunks: Sequence[int]) -> Any:
    """Each dimension on its own, the last first, so that the others stay where they are."""
    del chunks
    entries = _expand(values, key)
    if any(isinstance(entry, np.ndarray) and entry.ndim != 1 for entry in entries):
        raise UnknownError
    for dim in reversed(range(values.ndim)):
        values = values[(slice(None),) * dim + (entries[dim],)]
    return values


def _vindex(values: Values, key: Any, chunks: Sequence[int]) -> Any:
    """Lists and integers together, in front of what is sliced."""
    del chunks
    entries = _expand(values, key)
    if not any(isinstance(entry, np.ndarray) for entry in entries):
        raise UnknownError
    dims = [dim for dim, entry in enumerate(entries) if not isinstance(entry, slice)]
    rest = [dim for dim in range(values.ndim) if dim not in dims]
    turned = values.transpose(dims + rest)
    lists = np.broadcast_arrays(*(np.asarray(entries[dim]) for dim in dims))
    return turned[(*lists, *(entries[dim] for dim in rest))]


def _blocks(values: Values, key: Any, chunks: Sequence[int]) -> Any:
    counts = np.zeros([-(-n // c) for n, c in zip(values.shape, chunks, strict=True)], np.bool_)
    box = []
    for dim, entry in enumerate(_expand(counts, key)):
        if isinstance(entry, np.ndarray) or (isinstance(entry, slice) and entry.step is not None):
            raise UnknownError
        numbers = np.atleast_1d(np.arange(counts.shape[dim])[entry])
        if not len(numbers):
            box.append(slice(0, 0))
            continue
        box.append(slice(numbers[0] * chunks[dim], (numbers[-1] + 1) * chunks[dim]))
    return values[tuple(box)]


# ------------------------------------------------------------------------- the command line

PLAIN = frozenset("0123456789:,[]-. ")
"""Letters of texts that Python itself may evaluate."""


def check_text(data: bytes) -> Outcome:
    """A selection as text."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        key = parse_selection(text)
    except SelectionError as error:
        return refused(error)
    assert parse_selection(_written(key)) == key, key
    if PLAIN.issuperset(text) and text.strip():
        _assert_python_agrees(text, key)
    return "right"


def _assert_python_agrees(text: str, key: Any) -> None:
    class Taker:
        def __getitem__(self, taken: Any) -> Any:
            return taken

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        due = eval(f"taker[{text}]", {"__builtins__": {}, "taker": Taker()})  # noqa: S307  plain
    assert key == due, (key, due)


def _written(key: Any) -> str:
    """A key as text again."""
    if isinstance(key, tuple):
        return ", ".join(map(_written, key)) + "," if key else "()"
    if isinstance(key, slice):
        return f"{_end(key.start)}:{_end(key.stop)}:{_end(key.step)}"
    return "..." if key is ... else repr(key)


def _end(number: int | None) -> str:
    return "" if number is None else str(number)


def _key_seeds() -> list[bytes]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, 40, np.uint8).tobytes() for _ in range(60)]


def _text_seeds() -> list[bytes]:
    texts = (
        *("0:10, ..., 3", "::2", "[0, 3, 5]", "-1", "", "...", "None, 1", "[True, False]", "'a'"),
        *("1:2:3, [-1], :, ::-1", " 1 ", "[[1]]", "a", "(1, 2)", "1_000", "0x10", "[]", ":,"),
    )
    return [text.encode() for text in texts]


TEXT_TOKENS = tuple(
    token.encode()
    for token in (
        *(":", ",", "[", "]", "...", "-", "None", "True", "(", ")", "'x'", "1", "\n", "#", "]\n["),
        *(
            "\\",
            "\0",
            "lambda",
            "f'{x}'",
            "__import__('os')",
            ":=",
            "*",
            "1e9",
            "9" * 5000,
            "\u0661",
        ),
        *("[" * 200, "-" * 500, "(" * 300, "\u00e9", "\t", ";", "\f"),
    )
)

TARGETS = (
    Target("keys", check_key, _key_seeds, 1_000, longest=200),
    Target("selection-text", check_text, _text_seeds, 2_000, TEXT_TOKENS, longest=2_000),
)
