"""The arrays that faults happen to, every way to read them, and what must come of it."""

from __future__ import annotations

import asyncio
import gc
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numcodecs
import numpy as np
import pytest
import zstandard

import gpuzarr
from tests.cuda_devices import installed, to_numpy
from tests.engines.cuda.fake_device import FakeDevice
from tests.few_ways import CHUNKS, MEDIUM, SMALL, read_few
from tests.stored import RegularGrid, Sharding, store_v3, with_crc32c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Values = np.ndarray[Any, Any]

VALUES: Values = np.random.default_rng(7).integers(1, 9, (12, 12), np.int32)
FILL = -7

BLOSC = {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}


def _blosc(data: bytes) -> bytes:
    return bytes(numcodecs.Blosc("lz4", 5, 1, typesize=4).encode(np.frombuffer(data, "i4")))


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(data)


CODECS: dict[str, Any] = {
    "crc32c": ({"name": "crc32c"}, with_crc32c),
    "zstd": ({"name": "zstd", "configuration": {"level": 1, "checksum": True}}, _zstd),
    "blosc": ({"name": "blosc", "configuration": BLOSC}, _blosc),
}


@dataclass(frozen=True)
class Layout:
    """How an array is stored."""

    name: str
    chunks: tuple[int, int]
    codec: str | None = None
    gzip: bool = False
    sharding: tuple[Sharding, ...] = ()
    checked: bool = True
    """Whether altered bytes are found: by a checksum, or since they are no stream any more."""

    def stored(self, values: Values = VALUES, path: str = "") -> dict[str, bytes]:
        """The array's objects."""
        return store_v3(
            values,
            RegularGrid(self.chunks),
            fill=FILL,
            gzip=self.gzip,
            bytes_codecs=[CODECS[self.codec]] if self.codec else [],
            sharding=self.sharding,
            path=path,
        ).values

    @property
    def grid(self) -> tuple[int, int]:
        """Chunk shape, inside shards where there are any."""
        inner = self.sharding[-1].chunk_shape if self.sharding else self.chunks
        return inner[0], inner[1]

    def box(self, key: str) -> tuple[slice, slice]:
        """What an object holds."""
        i, j = map(int, key.rsplit("/", 2)[-2:])
        (a, b) = self.chunks
        return slice(i * a, (i + 1) * a), slice(j * b, (j + 1) * b)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("plain", (4, 4), checked=False),
        Layout("gzip", (4, 3), gzip=True),
        Layout("zstd", (2, 3), "zstd"),
        Layout("crc32c", (4, 4), "crc32c"),
        Layout("blosc", (4, 6), "blosc", checked=False),
        Layout("plain shards", (6, 6), sharding=(Sharding((2, 3)),), checked=False),
        Layout("zstd shards", (6, 6), "zstd", sharding=(Sharding((3, 3), checksum=True),)),
        Layout(
            "shards in shards",
            (6, 12),
            gzip=True,
            sharding=(Sharding((6, 6), checksum=True), Sharding((3, 2), "start", checksum=True)),
        ),
    )
}


def objects(values: dict[str, bytes]) -> list[str]:
    """The keys of chunks and shards."""
    return sorted(key for key in values if "c/" in key)


# --------------------------------------------------------------------------------- ways to read


@dataclass(frozen=True)
class WayToRead:
    """One of the public ways to read."""

    read: Callable[[gpuzarr.Array], Any]
    of: Callable[[Values], Values]
    """The same of the values in memory."""

    def __call__(self, array: gpuzarr.Array) -> Values:
        """Read, into host memory."""
        return to_numpy(self.read(array))

    def needs(self, layout: Layout, key: str) -> bool:
        """Whether an object holds something that is read."""
        mask = np.zeros(VALUES.shape, np.int32)
        mask[layout.box(key)] = 1
        return bool(self.of(mask).any())


BOXES = [(slice(i, i + 5), slice(j, j + 7)) for i, j in ((0, 0), (3, 4), (7, 5), (0, 3))]
WINDOWS = [(slice(i, i + 6), slice(j, j + 4)) for i in (0, 6) for j in (0, 4, 8)]
ROWS = [11, 0, 7, 7]
DOWN, UP = np.arange(12), np.arange(12)[::-1]


def _loaded(array: gpuzarr.Array, **options: Any) -> Values:
    loader = gpuzarr.Loader(array, crop=(6, 4), batch_size=2, **options)
    return np.concatenate([to_numpy(batch) for batch in loader])


def _boxes(values: Values) -> Values:
    return np.stack([values[box] for box in BOXES])


def _windows(values: Values) -> Values:
    return np.stack([values[window] for window in WINDOWS])


WAYS: dict[str, WayToRead] = {
    "[...]": WayToRead(lambda a: a[...], lambda v: v),
    "[part]": WayToRead(lambda a: a[1:11, 2:], lambda v: v[1:11, 2:]),
    "[one]": WayToRead(lambda a: a[5, 4], lambda v: v[5, 4]),
    "[steps]": WayToRead(lambda a: a[::-3, 1::2], lambda v: v[::-3, 1::2]),
    "read": WayToRead(lambda a: a.read(dtype="f8"), lambda v: v.astype("f8")),
    "oindex": WayToRead(lambda a: a.oindex[ROWS, 1:], lambda v: v[ROWS, 1:]),
    "vindex": WayToRead(lambda a: a.vindex[DOWN, UP], lambda v: v[DOWN, UP]),
    "blocks": WayToRead(lambda a: a.blocks[...], lambda v: v),
    "read_async": WayToRead(lambda a: a.read_async(slice(2, 12)).result(), lambda v: v[2:]),
    "await": WayToRead(lambda a: asyncio.run(a.getitem(...)), lambda v: v),
    "read_batch": WayToRead(lambda a: gpuzarr.read_batch([(a, box) for box in BOXES]), _boxes),
    "Loader": WayToRead(_loaded, _windows),
    "Loader, cache": WayToRead(lambda a: _loaded(a, cache_nbytes=9999, prefetch=0), _windows),
}


# -------------------------------------------------------------------------------------- engines


@dataclass
class Opener:
    """Opens arrays for one engine."""

    options: dict[str, Any]
    fake: FakeDevice | None = None

    def __call__(self, store: Any, path: str = "") -> gpuzarr.Array:
        """`gpuzarr.open_array`."""
        return gpuzarr.open_array(store, path=path, **self.options)


ENGINES: dict[str, dict[str, Any]] = {
    "cpu": {"device": "cpu", "threads": 1},
    "cpu, threads": {"device": "cpu", "threads": 3},
    "few": {"device": "cpu", "threads": 1},
    "few, threads": {"device": "cpu", "threads": 3},
    "few, bricks": {"device": "cpu", "threads": 3},
    "few, medium bricks": {"device": "cpu", "threads": 3},
    "cuda": {"device": "cuda"},
    "cuda, host": {"device": "cuda", "decode": "host"},
    "cuda, few": {"device": "cuda", "decode": "host", "threads": 1},
}
"""The CPU engine and the CUDA engine, on the fake device, with columns and without."""

BRICKS = {"few, bricks": SMALL, "few, medium bricks": MEDIUM, "cuda, few": SMALL}


@contextmanager
def engine(name: str) -> Iterator[Opener]:
    """One of `ENGINES`; the fake device must have all of its memory back in the end."""
    opener = Opener(ENGINES[name])
    with pytest.MonkeyPatch.context() as patch:
        if "few" in name:
            read_few(patch, BRICKS.get(name, CHUNKS))
        if not name.startswith("cuda"):
            yield opener
            return
        opener.fake = FakeDevice()
        with installed(opener.fake):
            yield opener
            gc.collect()
            assert opener.fake.used == 0, "memory on the device was not given back"
