"""What an input is, and which ones there are: number i of kind k is the same on every machine.

Kinds are functions that register themselves by `kind`; `make` draws one input. All chance comes
from `random.Random("kind/number")`, whose numbers Python keeps the same.
"""

from __future__ import annotations

import hashlib
import random
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tests.hostile.bases import Base, Coords, load_bases

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Promise = Literal["refuse", "told", "any"]
"""What a read owes: an error; an error or the right values; an error or values of the right shape
and type, because the format cannot tell more."""


@dataclass(frozen=True, eq=False)
class Later:
    """A store that is made when it is opened, so that what is wrong with it is told then."""

    make: Callable[[], Any]
    content: Mapping[str, bytes]
    """What tells it from others."""
    fickle: bool = False
    """Whether it may say something else to who asks in another order."""


@dataclass(frozen=True, eq=False)
class Hostile:
    """One input."""

    what: str
    """What was done, for people."""
    store: Any
    """What `gpuzarr.open` is given, or a `Later` that makes it."""
    base: Base | None = None
    """What it was before."""
    damaged: frozenset[str] | None = None
    """Keys of stored chunks or shards that were changed, and nothing else was; None: anything may
    be wrong."""
    chunks: frozenset[Coords] | None = None
    """The chunks among them, where not all of a shard is concerned."""
    promise: Promise = "any"
    """Of chunks that are damaged."""
    look: Literal["array", "node", "archive"] = "array"
    """What is asked: an array; whatever is there, with all below; an array in an archive, where a
    chunk whose name is damaged is missing."""
    path: str | None = None
    """Of the node; None: that of the base."""

    def to_open(self) -> Any:
        """What `gpuzarr.open` is given."""
        return self.store.make() if isinstance(self.store, Later) else self.store

    @property
    def on_disk(self) -> bool:
        """Whether it lies in the tools' folder."""
        return isinstance(self.store, (Path, Later))


@dataclass(frozen=True)
class Tools:
    """What kinds draw from."""

    bases: tuple[Base, ...]
    folder: Path
    """A directory of the process's own for stores on disk; emptied after each input."""
    cache: dict[Any, Any] = field(default_factory=dict)
    """Whatever a kind makes once."""

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` gave the first time."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]

    def bases_where(self, name: str, test: Callable[[Base], bool]) -> list[Base]:
        """The bases that pass a test, which has a name."""
        found: list[Base] = self.once(("where", name), lambda: [b for b in self.bases if test(b)])
        return found


@dataclass(frozen=True)
class Kind:
    """A kind of damage."""

    name: str
    make: Callable[[random.Random, Tools], Hostile]
    weight: int
    """How many of its inputs are in each round."""
    promise: str
    """For the table: what is promised."""


KINDS: dict[str, Kind] = {}


def kind(
    name: str, weight: int, promise: str
) -> Callable[
    [Callable[[random.Random, Tools], Hostile]], Callable[[random.Random, Tools], Hostile]
]:
    """Register a function as a kind of damage."""

    def register(
        make: Callable[[random.Random, Tools], Hostile],
    ) -> Callable[[random.Random, Tools], Hostile]:
        assert name not in KINDS, name
        KINDS[name] = Kind(name, make, weight, promise)
        return make

    return register


def rounds() -> list[tuple[str, int]]:
    """The inputs of one round: kinds, spread evenly, each with its place among its own."""
    places = [
        ((place + 0.5) / each.weight, each.name, place)
        for each in KINDS.values()
        for place in range(each.weight)
    ]
    return [(name, place) for _, name, place in sorted(places)]


def numbered(index: int, order: list[tuple[str, int]]) -> tuple[str, int]:
    """The kind, and the number within it, of an input; `order` is `rounds()`."""
    turn, place = divmod(index, len(order))
    name, among = order[place]
    return name, turn * KINDS[name].weight + among


def make(name: str, number: int, tools: Tools) -> Hostile:
    """An input."""
    chance = random.Random(f"{name}/{number}")  # noqa: S311  the same everywhere
    return KINDS[name].make(chance, tools)


def make_tools(folder: Path) -> Tools:
    """The tools of a process."""
    return Tools(tuple(load_bases()), folder)


def digest(hostile: Hostile) -> str:
    """Sixteen letters that change when an input does; stores on disk by their files."""
    found = hashlib.sha256(hostile.what.encode(errors="surrogatepass"))
    for key, value in contents(hostile.store):
        found.update(f"{key!r} {len(value)} ".encode(errors="surrogatepass") + value)
    return found.hexdigest()[:16]


def first_digests(tools: Tools, names: Iterable[str], count: int = 20) -> dict[str, str]:
    """For each kind, sixteen letters that change when one of its first inputs does."""
    found = {}
    for name in names:
        whole = hashlib.sha256()
        for number in range(count):
            whole.update(digest(make(name, number, tools)).encode())
            empty(tools.folder)
        found[name] = whole.hexdigest()[:16]
    return found


def empty(folder: Path) -> None:
    """Take away what an input left on disk."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def contents(store: Any) -> Iterable[tuple[str, bytes]]:
    """What tells a store from others: names and bytes."""
    if isinstance(store, Later):
        return sorted(store.content.items())
    if isinstance(store, dict):
        return sorted((str(k), v if isinstance(v, bytes) else b"") for k, v in store.items())
    if isinstance(store, Path):
        files = [store] if store.is_file() else sorted(store.rglob("*"))
        return [
            (path.name, _beginning(path) if path.is_file() and not path.is_symlink() else b"")
            for path in files
        ]
    return []


def _beginning(path: Path) -> bytes:
    """What of a file tells it from others; some are sparse, and very large, or not to be read."""
    with suppress(PermissionError), path.open("rb") as file:
        return file.read(1 << 20)
    return b""


def changed(base: Base, changes: Mapping[str, bytes | None]) -> dict[str, Any]:
    """The store of a base with some objects replaced, or removed where they are None."""
    values: dict[str, Any] = dict(base.values)
    for key, value in changes.items():
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
    return values
