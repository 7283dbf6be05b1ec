"""Arrays that zarr-python writes, read by gpuzarr in every way, against what zarr-python reads.

The bytes of an input choose the array (format, data type, fill value, chunks, shards, codecs, keys,
what is stored) and what is read of it. The CPU engine and the CUDA engine, on the device that is
simulated, must give zarr-python's values, bit for bit.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

import gpuzarr
from gpuzarr.errors import ChunkError, GpuzarrError, UnsupportedError
from tests.conformance.values import assert_equal
from tests.cuda_devices import installed, to_numpy
from tests.engines.cuda.fake_device import FakeDevice
from tests.hostile.fuzz.draw import Draw
from tests.hostile.fuzz.recipes import NotWrittenError, Recipe, draw_recipe
from tests.hostile.fuzz.target import Outcome, Target
from tests.hostile.fuzz.ways import WAYS, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    Values = np.ndarray[Any, Any]

MOST_READS = 3
DEVICE_KINDS = "biufc"
"""Kinds of dtypes that arrays on a GPU have."""
NUMBERS = ("bool", "i1", "u2", "i4", "u8", "f2", "f4", "f8", "c16")


def check(data: bytes) -> Outcome:
    """An array, and a few reads of it."""
    draw = Draw(data)
    try:
        recipe, store, values = _write(draw)
    except NotWrittenError:
        return "unusable"
    arrays = _open_all(draw, recipe, store)
    for array in arrays:
        assert (array.shape, array.zarr_format) == (values.shape, recipe.zarr_format)
    for _ in range(1 + draw.integer(0, MOST_READS - 1)):
        read = draw.choice(READS)
        state = draw.take(24)
        with reading(draw.choice(WAYS)):
            for array in arrays:
                read(Draw(state), array, values, store)
    return "right"


def _write(draw: Draw) -> tuple[Recipe, dict[str, Any], Values]:
    """The array as it is stored, and all its values as zarr-python reads them."""
    store: dict[str, Any] = {}
    with warnings.catch_warnings(), zarr.config.set({"array.rectilinear_chunks": True}):
        warnings.simplefilter("ignore")
        recipe = draw_recipe(draw)
        recipe.write(MemoryStore(store))
        values = _own(zarr.open_array(MemoryStore(store), mode="r"), recipe)
    return recipe, {key: value.to_bytes() for key, value in store.items()}, values


def _own(array: Any, recipe: Recipe) -> Values:
    """All values as zarr-python reads them, as an array in native byte order."""
    try:
        found = array[...]
    except Exception as error:
        # What zarr-python writes and cannot read tells nothing.
        raise NotWrittenError from error
    if isinstance(found, (bytes, np.ndarray)) and recipe.is_object and not array.shape:
        raise NotWrittenError  # zarr-python drops the zeros at the end of a single one
    if recipe.is_object or not array.shape:
        values = np.empty(array.shape, object if recipe.is_object else array.dtype)
        values[...] = found
    else:
        values = np.asarray(found)
    return _native(values)


def _open_all(draw: Draw, recipe: Recipe, store: dict[str, Any]) -> list[gpuzarr.Array]:
    """The array on the CPU; on the device, where it can have such arrays."""
    threads = draw.choice((1, 2))
    arrays = [gpuzarr.open_array(store, device="cpu", threads=threads)]
    decode = draw.choice(("auto", "host", "device"))
    array = gpuzarr.open_array(store, device="cuda", decode=decode)  # type: ignore[arg-type]
    try:
        array.engine  # noqa: B018  it is chosen here
        array[(slice(0, 0),) * array.ndim]
    except UnsupportedError:
        is_held = not recipe.is_object and np.dtype(array.dtype).kind in DEVICE_KINDS
        assert decode == "device" or not is_held or array.dtype.isbuiltin != 1, recipe
        return arrays
    return [*arrays, array]


def _key(draw: Draw, shape: Sequence[int], *, lists: bool) -> tuple[Any, ...]:
    """One entry for each dimension, all inside."""
    entries: list[Any] = []
    for length in shape:
        kind = draw.integer(0, 7 if lists else 5)
        if kind == 0 and length:
            entries.append(draw.integer(-length, length - 1))
        elif kind == 6 and length:
            entries.append([draw.integer(-length, length - 1) for _ in draw.some(5)])
        elif kind == 7:
            entries.append(np.array([draw.flag() for _ in range(length)], bool))
        else:
            ends = sorted(draw.integer(0, length) for _ in range(2))
            step = draw.choice((1, 1, 1, 2, 3))
            entries.append(slice(ends[0], ends[1], step) if kind > 1 else slice(None))
    return tuple(entries)


def _assert_same(found: Any, due: Any) -> None:
    assert found.flags.c_contiguous
    if isinstance(due, (str, bytes)):  # one object, of which NumPy would make an array of its own
        one, due = due, np.empty((), object)
        due[()] = one
    assert_equal(_native(np.asarray(due)), to_numpy(found))


def _native(values: Values) -> Values:
    """The same in native byte order."""
    if values.dtype.kind in "OT":
        return values
    return values.astype(values.dtype.newbyteorder("="))


def _basic(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """Integers and slices; steps may be negative, which zarr-python does not have."""
    del store
    key = _key(draw, array.shape, lists=False)
    if draw.flag():
        at = draw.integer(0, array.ndim)
        key = (*key[:at], ..., *key[at:])
    if draw.flag() and array.ndim:
        key = tuple(slice(None, None, -1) if entry == slice(None) else entry for entry in key)
    _assert_same(array[key], _index(values, key))


def _index(values: Values, key: Any) -> Values:
    """An array, also of one element."""
    return values[(*key, ...)] if ... not in [e for e in key if e is ...] else values[key]


def _orthogonal(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """`oindex`, as zarr-python reads it."""
    del values
    key = _key(draw, array.shape, lists=True)
    _as_zarr_python(array.oindex, store, key, lambda own: own.oindex[key])


def _points(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """`vindex`, as zarr-python reads it."""
    del store
    if not array.ndim or 0 in array.shape:
        return
    shape = draw.choice(((3,), (1,), (2, 2), (5,)))
    key = tuple(
        np.array([draw.integer(-n, n - 1) for _ in range(int(np.prod(shape)))]).reshape(shape)
        for n in array.shape
    )
    _assert_same(array.vindex[key], values[key])


def _mask(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """A mask of the array's shape."""
    del store
    bits = np.frombuffer(draw.take(max(1, array.size)), np.uint8)[: array.size] % 2 == 1
    if array.ndim:
        mask = bits.reshape(array.shape)
        _assert_same(array.vindex[mask], values[mask])


def _blocks(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """Stored objects, as zarr-python reads them."""
    del values
    grid = array.metadata.chunk_grid
    if not hasattr(grid, "chunk_shape") or not array.ndim:
        return
    key = tuple(
        draw.integer(0, -(-n // c) - 1) if n and draw.flag() else slice(None)
        for n, c in zip(array.shape, grid.chunk_shape, strict=True)
    )
    _as_zarr_python(array.blocks, store, key, lambda own: own.blocks[key])


def _as_zarr_python(
    place: Any, store: dict[str, Any], key: Any, read: Callable[[Any], Any]
) -> None:
    buffer = zarr.core.buffer.cpu.Buffer
    kept: dict[str, Any] = {name: buffer.from_bytes(value) for name, value in store.items()}
    with warnings.catch_warnings(), zarr.config.set({"array.rectilinear_chunks": True}):
        warnings.simplefilter("ignore")
        try:
            due = read(zarr.open_array(MemoryStore(kept), mode="r"))
        except Exception:  # noqa: BLE001  it has bugs of its own: the key is sound
            place[key]
            return
    found = place[key]
    due = np.asarray(due)
    if due.dtype.kind in "OT" and (
        due.shape != found.shape or any(isinstance(one, np.ndarray) for one in due.ravel())
    ):
        return  # zarr-python unpacks arrays in arrays, or packs them
    if due.dtype.kind in "SU":
        due = due.astype(found.dtype)  # scalars are as long as what is in them
    _assert_same(found, due)


def _batch(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """Several selections in one call, and each alone."""
    del store
    keys = [_key(draw, array.shape, lists=False) for _ in range(2 + draw.integer(0, 3))]
    found = gpuzarr.read_batch([(array, key) for key in keys])
    assert len(found) == len(keys)
    for number, key in enumerate(keys):
        each = found[number] if isinstance(found, list) else to_numpy(found)[number, ...]
        _assert_same(each, _index(values, key))


def _into(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """Into memory of the caller's, turned and with gaps."""
    del store
    key = _key(draw, array.shape, lists=False)
    due = _index(values, key)
    if array.device != "cpu" or due.dtype != array.dtype:
        return
    step = draw.choice((1, 2))
    out = np.zeros((*due.shape[::-1], step), due.dtype)[..., 0].T
    assert array.read(key, out=out) is out
    _assert_same(np.array(out, order="C"), due)


def _converted(draw: Draw, array: gpuzarr.Array, values: Values, store: Any) -> None:
    """Another dtype: NumPy's `astype`; floats to integers are refused where they do not fit."""
    del store
    dtype = np.dtype(draw.choice(NUMBERS))
    key = _key(draw, array.shape, lists=False)
    due = _index(values, key)
    if due.dtype.kind not in DEVICE_KINDS or due.dtype.isbuiltin != 1:
        return
    if due.dtype.kind == "c" and dtype.kind != "c":
        with_error: type[Exception] = UnsupportedError
        fits = False
    else:
        with_error = ChunkError
        fits = _fits(due, dtype)
    try:
        found = array.read(key, dtype=dtype)
    except GpuzarrError as error:
        if fits or not isinstance(error, with_error):
            raise AssertionError("this should be read") from error
        return
    assert fits, f"{due.dtype} to {dtype} fits, but should not"
    with np.errstate(all="ignore"):
        _assert_same(found, due.astype(dtype))


def _fits(values: Values, dtype: np.dtype[Any]) -> bool:
    """Whether floats are integers of the dtype once they are cut."""
    if values.dtype.kind != "f" or dtype.kind not in "iu":
        return True
    low, high = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    cut = np.trunc(values.astype(np.float64))
    return bool((np.isfinite(cut) & (cut >= low) & (cut < high + 1)).all())


READS: tuple[Callable[[Draw, gpuzarr.Array, Values, Any], None], ...] = (
    *(_basic, _basic, _orthogonal, _points, _mask, _blocks, _batch, _batch, _into, _converted),
)


def _seeds() -> list[bytes]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, 120, np.uint8).tobytes() for _ in range(40)]


def _device() -> AbstractContextManager[None]:
    return installed(FakeDevice())


TARGETS = (Target("arrays", check, _seeds, 250, longest=400, around=_device),)
