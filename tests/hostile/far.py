"""Stores that are far away and answer wrongly, alone and below other stores; archives in them."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuzarr.errors import StoreError
from gpuzarr.stores.cached.store import CachedStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.references.store import ReferenceStore
from gpuzarr.stores.store import WHOLE, Blob, Store, place
from gpuzarr.stores.zip.store import ZipStore
from tests.hostile.inputs import KINDS, Hostile, Later, Promise, Tools, kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from random import Random

    from gpuzarr.stores.store import Buffer, Pending

Request = tuple[str, int, int]
ARCHIVE = "archive.zip"
MIB = 1 << 20


class Far(Store):
    """Objects in memory that are read as if they were far away; answers for some are lies."""

    name = "far://host"

    def __init__(
        self,
        values: Mapping[str, bytes],
        lie: Callable[[Blob, int], Blob | None] | None = None,
        about: frozenset[str] = frozenset(),
    ) -> None:
        self._store = MappingStore(values)
        self._lie = lie
        self._about = about
        self._asked = 0

    def __repr__(self) -> str:
        return "Far()"

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Buffer] = bytearray,
    ) -> Blob | None:
        try:
            blob = self._store.read(key, offset, nbytes)
            if blob is None:
                return None
            blob = Blob(blob.data, "v0", self._store.size(key))
            if self._lie is not None and key in self._about:
                self._asked += 1
                said = self._lie(blob, self._asked)
                if said is None:
                    return None
                blob = said
        except StoreError as error:
            raise error.at(store=self.name, key=key) from None
        memory = place(allocate, len(blob.data), key)
        memory[:] = blob.data
        return blob._replace(data=memory)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        return self._store.list(prefix)

    def size(self, key: str) -> int | None:
        blob = self.read(key, 0, 0)
        return None if blob is None else blob.size

    def start_reads(
        self, keys: Sequence[str], offsets: Sequence[int], nbytes: Sequence[int]
    ) -> Pending:
        return _InFlight(self, list(zip(keys, offsets, nbytes, strict=True)))


class _InFlight:
    """Requests that are on their way."""

    def __init__(self, store: Far, wanted: list[Request]) -> None:
        self._store = store
        self._wanted = wanted

    def result(self, row: int, allocate: Callable[[int], Buffer] = bytearray) -> Blob | None:
        return self._store.read(*self._wanted[row], allocate)


def sized(change: Callable[[memoryview], bytes]) -> Callable[[Blob, int], Blob | None]:
    """An answer of other bytes, and all else as it is."""
    return lambda blob, _: blob._replace(data=memoryview(change(blob.data)))


def flipped(data: memoryview) -> bytes:
    """Other bytes, as many."""
    return bytes(each ^ 0x55 for each in data)


def _size(size: int) -> Callable[[Blob, int], Blob | None]:
    return lambda blob, _: blob._replace(size=size)


def _broken(_blob: Blob, _asked: int) -> Blob | None:
    raise StoreError("the connection broke")


def _changed(blob: Blob, asked: int) -> Blob:
    return blob if asked == 1 else Blob(memoryview(flipped(blob.data)), "v1", blob.size)


def _forgetful(blob: Blob, asked: int) -> Blob:
    return blob if asked == 1 else blob._replace(validator=None)


LIES: dict[str, tuple[Callable[[Blob, int], Blob | None], Promise]] = {
    "short": (sized(lambda data: bytes(data[:-1])), "told"),
    "half": (sized(lambda data: bytes(data[: len(data) // 2])), "told"),
    "nothing": (sized(lambda _: b""), "told"),
    "long": (sized(lambda data: bytes(data) + b"x"), "told"),
    "twice": (sized(lambda data: bytes(data) * 2), "told"),
    "very long": (sized(lambda data: bytes(data) + bytes(4 * MIB)), "told"),
    "flipped": (sized(flipped), "any"),
    "another version later": (_changed, "any"),
    "gone": (lambda _blob, _asked: None, "any"),
    "gone later": (lambda blob, asked: blob if asked == 1 else None, "any"),
    "another etag each time": (lambda blob, asked: blob._replace(validator=f"v{asked}"), "told"),
    "no etag later": (_forgetful, "told"),
    "no size": (lambda blob, _: blob._replace(size=None), "told"),
    "size 0": (_size(0), "told"),
    "size -1": (_size(-1), "told"),
    "size 2^40": (_size(1 << 40), "told"),
    "size 2^100": (_size(1 << 100), "told"),
    "broken": (_broken, "refuse"),
    "broken later": (lambda blob, asked: blob if asked == 1 else _broken(blob, asked), "told"),
}


def _direct(values: Mapping[str, bytes], far: Callable[..., Far], about: str) -> Store:
    return far(values, about=frozenset([about]))


def _cached(values: Mapping[str, bytes], far: Callable[..., Far], about: str) -> Store:
    return CachedStore(_direct(values, far, about), MIB)


def _referenced(values: Mapping[str, bytes], far: Callable[..., Far], about: str) -> Store:
    """Each key a part of one object, but for that with the lies."""
    body, references = b"", {}
    for key, value in values.items():
        if key == about:
            references[key] = ["far://host/bad", 0, len(value)] if value else ["far://host/bad"]
        else:
            references[key] = ["far://host/body", len(body), len(value)]
            body += value
    store = ReferenceStore.from_document(references, name="<references>")
    there = far({"body": body, "bad": values[about]}, about=frozenset(["bad"]))
    store._targets._stores["far://host"] = there  # noqa: SLF001  whose URL nothing opens
    return store


def _archived(values: Mapping[str, bytes], far: Callable[..., Far], about: str) -> Store:
    """All lies are about the archive."""
    del about
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for key, value in values.items():
            archive.writestr(zipfile.ZipInfo(key), value)
    return ZipStore.of_object(far({ARCHIVE: out.getvalue()}, about=frozenset([ARCHIVE])), ARCHIVE)


LAYERS = {
    "alone": _direct,
    "cached": _cached,
    "referenced": _referenced,
    "in an archive": _archived,
}


@kind("stores far away that lie", 14, "an error, or what was asked for, where the format tells")
def far(chance: Random, tools: Tools) -> Hostile:
    """About a chunk, a shard, or the archive that all is in."""
    bases = tools.bases_where("with bytes", lambda base: any(map(base.values.get, base.objects)))
    base = chance.choice(bases)
    key = chance.choice([key for key in base.objects if base.values[key]])
    how, layer = chance.choice(list(LIES)), chance.choice(list(LAYERS))
    lie, promise = LIES[how]
    if promise == "told" and not base.checked and base.index is not None and not base.index.checked:
        promise = "any"
    make = partial(LAYERS[layer], dict(base.values), partial(Far, lie=lie), key)
    what = f"{base.name}, {key}, {layer}: {how}"
    store = Later(make, {"what": what.encode()}, fickle=True)
    if layer == "in an archive":
        return Hostile(what, store, base, promise=promise, look="archive")
    return Hostile(what, store, base, frozenset([key]), promise=promise)


@kind("archives far away", 10, "as archives on disk")
def archives(chance: Random, tools: Tools) -> Hostile:
    """What other kinds make, as an object of another store: other code reads it."""
    names = ("damaged archives", "fields of archives", "archives that lie")
    hostile = KINDS[chance.choice(names)].make(chance, tools)
    data = Path(hostile.store).read_bytes()
    make = partial(_opened, data)
    return dataclasses.replace(
        hostile, what=f"far away: {hostile.what}", store=Later(make, {ARCHIVE: data})
    )


def _opened(data: bytes) -> Any:
    return ZipStore.of_object(Far({ARCHIVE: data}), ARCHIVE)
