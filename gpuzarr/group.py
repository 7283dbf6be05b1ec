"""`Group`: a read-only mapping of names to arrays and groups."""

from __future__ import annotations

import textwrap
import threading
import weakref
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from gpuzarr.array import Array
from gpuzarr.errors import GpuzarrError, NotFoundError, StoreError
from gpuzarr.metadata.model import ArrayMetadata, GroupMetadata
from gpuzarr.node import (
    OpenOptions,
    child_names,
    join,
    load_attributes,
    load_node,
    load_nodes,
    normalize_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.stores.store import Store

T = TypeVar("T")


class Group(Mapping[str, "Array | Group"]):
    """A read-only Zarr group. `gpuzarr.open_group` makes one.

    Members are opened when they are asked for. Where the group has consolidated metadata, no
    request is made for members' metadata and nothing is listed.

    >>> group = gpuzarr.open_group(store)
    >>> sorted(group)
    ['images', 'temperature']
    >>> group["images/0"].shape
    (5, 4)
    """

    def __init__(
        self,
        store: Store,
        path: str,
        metadata: GroupMetadata,
        options: OpenOptions,
    ) -> None:
        """Use `gpuzarr.open_group`."""
        self._store = store
        self._path = path
        self._metadata = metadata
        self._options = options
        self._attributes: Mapping[str, Any] | None = None
        self._below = None if options.consolidated is False else metadata.consolidated
        self._looking: tuple[int, weakref.ref[_Looking[Any]]] | None = None

    @property
    def metadata(self) -> GroupMetadata:
        """The metadata document."""
        return self._metadata

    @property
    def store(self) -> Store:
        """Where the group lies."""
        return self._store

    @property
    def path(self) -> str:
        """Path of the group in its store; "" for the root."""
        return self._path

    @property
    def name(self) -> str:
        """The path with a leading slash, as in h5py."""
        return "/" + self._path

    @property
    def zarr_format(self) -> int:
        """2 or 3."""
        return self._metadata.zarr_format

    @property
    def attrs(self) -> Mapping[str, Any]:
        """User attributes; v2's are read at first use."""
        if self._attributes is None:
            self._attributes = load_attributes(self._store, self._path, self._metadata)
        return self._attributes

    def __getitem__(self, path: str) -> Array | Group:
        if not isinstance(path, str):
            raise TypeError(f"members of a group are named by text, not {type(path).__name__}")
        relative = normalize_path(path)
        if not relative:
            return self
        try:
            return self._open(relative)
        except NotFoundError as error:
            raise _MemberNotFoundError(error.message, store=error.store, path=error.path) from None

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        try:
            relative = normalize_path(path)
        except StoreError:  # ".." and the like name no member
            return False
        try:
            if relative:
                self._open(relative)
        except GpuzarrError as error:
            # A member that is there but cannot be opened is a member.
            return not isinstance(error, NotFoundError)
        return True

    def __iter__(self) -> Iterator[str]:
        if self._below is not None:
            return iter(self._below.children())
        # A member that is there but cannot be opened is a member.
        return self._look(lambda: (name for name, _ in self._listed()))

    def __len__(self) -> int:
        if self._looking is not None:
            thread, reference = self._looking
            looking = reference() if thread == threading.get_ident() else None
            count = None if looking is None else looking.count()
            if count is not None:
                return count
        return sum(1 for _ in self)

    def keys(self) -> KeysView[str]:
        """Names directly below."""
        return _Keys(self)

    def items(self) -> ItemsView[str, Array | Group]:
        """Names and nodes directly below, whose metadata are read together."""
        return _Items(self)

    def values(self) -> ValuesView[Array | Group]:
        """Nodes directly below, whose metadata are read together."""
        return _Values(self)

    def arrays(self) -> Iterator[tuple[str, Array]]:
        """Names and arrays directly below."""
        return ((name, node) for name, node in self.members() if isinstance(node, Array))

    def groups(self) -> Iterator[tuple[str, Group]]:
        """Names and groups directly below."""
        return ((name, node) for name, node in self.members() if isinstance(node, Group))

    def members(self, max_depth: int | None = 0) -> Iterator[tuple[str, Array | Group]]:
        """Relative paths and nodes below, parents before their members.

        Args:
            max_depth: how many levels below the direct members; None for all.

        Raises:
            GpuzarrError: a member that cannot be opened, when it is its turn.
        """
        for path, node in self._walk(max_depth):
            yield path, _opened(node)

    def tree(self, max_depth: int | None = None) -> Tree:
        """The hierarchy below, as a drawing that prints.

        >>> print(gpuzarr.open_group(store).tree())
        /
        ├── images
        │   └── 0 (5, 4) uint16
        └── temperature (4, 6) float32
        """
        return Tree(self.name, tuple(self._walk(max_depth)))

    def __repr__(self) -> str:
        consolidated = ", consolidated" if self._below is not None else ""
        where = f"{self.name} in {self._store.name}"
        return f"<gpuzarr.Group {where}, zarr v{self.zarr_format}{consolidated}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Group, (self._store, self._path, self._metadata, self._options))

    def __hash__(self) -> int:
        return hash((Group, self._path))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Group):
            return NotImplemented
        return (self._store, self._path) == (other._store, other._path)

    def _walk(self, max_depth: int | None) -> Iterator[tuple[str, Array | Group | GpuzarrError]]:
        """What `members` gives, with errors in the place of members that cannot be opened."""
        waiting = [(name, node, 0) for name, node in self._children()][::-1]
        # A loop and not a recursion: hierarchies come from anyone.
        while waiting:
            path, node, depth = waiting.pop()
            yield path, node
            if isinstance(node, Group) and (max_depth is None or depth < max_depth):
                here = node._children()  # noqa: SLF001  the same class
                waiting += [(f"{path}/{name}", child, depth + 1) for name, child in here][::-1]

    def _look(self, look: Callable[[], Iterator[T]]) -> Iterator[T]:
        """What is found directly below, looked for when the first or their number is wanted.

        `list(group)` makes an iterator, asks for the length, and takes what there is: one look.
        """
        looking = _Looking(look)
        self._looking = (threading.get_ident(), weakref.ref(looking))
        return looking

    def _members(self) -> Iterator[tuple[str, Array | Group | GpuzarrError]]:
        """As `_children`, for the views of a mapping."""
        return self._look(self._children)

    def _children(self) -> Iterator[tuple[str, Array | Group | GpuzarrError]]:
        """Names and nodes directly below, each looked at once."""
        if self._below is None:
            for name, found in self._listed():
                if isinstance(found, GpuzarrError):
                    yield name, found
                else:
                    path = join(self._path, name)
                    yield name, make_node(self._store, path, found, self._options)
            return
        for name in self._below.children():
            try:
                yield name, self._open(name)
            except NotFoundError:
                continue  # no node
            except GpuzarrError as error:
                yield name, error

    def _listed(self) -> Iterator[tuple[str, ArrayMetadata | GroupMetadata | GpuzarrError]]:
        """Names and metadata of the nodes among the folders below, whose documents are read."""
        names = child_names(self._store, self._path)
        paths = [join(self._path, name) for name in names]
        for name, found in zip(names, load_nodes(self._store, paths, self._format), strict=True):
            if found is not None:
                yield name, found

    @property
    def _format(self) -> Literal[2, 3]:
        """The format that members are looked for in, where there are no consolidated metadata."""
        return self._options.zarr_format or self._metadata.zarr_format

    def _open(self, relative: str) -> Array | Group:
        """A member by its path below this group."""
        path = join(self._path, relative)
        options = self._options
        if self._below is None:
            metadata = load_node(self._store, path, zarr_format=self._format)
            return make_node(self._store, path, metadata, options)
        try:
            found = self._below.node(relative)
        except GpuzarrError as error:
            error.at(store=self._store.name, path=path)
            raise
        if found is None:
            raise NotFoundError(
                "the consolidated metadata have no such member; if it was added after they were"
                " written, open with consolidated=False",
                store=self._store.name,
                path=path,
            )
        return make_node(self._store, path, found, options)


class _Looking(Iterator[T], Generic[T]):
    """An iterator that knows the number of what it gives, before it has begun."""

    def __init__(self, look: Callable[[], Iterator[T]]) -> None:
        self._look = look
        self._found: Iterator[T] | None = None

    def __next__(self) -> T:
        if self._found is None:
            self._found = self._look()
        return next(self._found)

    def count(self) -> int | None:
        """How many there are; None once it has begun."""
        if self._found is not None:
            return None
        found = list(self._look())
        self._found = iter(found)
        return len(found)


class _Keys(KeysView[str]):
    """Names, by the group's own iterator, which `len` knows of."""

    _mapping: Group

    def __iter__(self) -> Iterator[str]:
        return iter(self._mapping)


class _Items(ItemsView[str, "Array | Group"]):
    """Names and nodes, whose documents were read when they were looked for."""

    _mapping: Group

    def __iter__(self) -> Iterator[tuple[str, Array | Group]]:
        return ((name, _opened(node)) for name, node in self._mapping._members())  # noqa: SLF001


class _Values(ValuesView["Array | Group"]):
    """As `_Items`, without the names."""

    _mapping: Group

    def __iter__(self) -> Iterator[Array | Group]:
        return (_opened(node) for _, node in self._mapping._members())  # noqa: SLF001


def _opened(node: Array | Group | GpuzarrError) -> Array | Group:
    if isinstance(node, GpuzarrError):
        raise node
    return node


class _MemberNotFoundError(NotFoundError, KeyError):
    """`group[name]` without such a member: a KeyError too, as mappings promise."""

    __str__ = NotFoundError.__str__


def make_node(
    store: Store,
    path: str,
    metadata: ArrayMetadata | GroupMetadata,
    options: OpenOptions,
) -> Array | Group:
    """The handle for a node's metadata."""
    if isinstance(metadata, ArrayMetadata):
        return Array(store, path, metadata, options)
    return Group(store, path, metadata, options)


@dataclass(frozen=True, slots=True)
class Tree:
    """A hierarchy; printing it draws it. An error stands for a member that cannot be opened."""

    root: str
    members: tuple[tuple[str, Array | Group | GpuzarrError], ...]

    def __str__(self) -> str:
        children: dict[str, list[tuple[str, Array | Group | GpuzarrError]]] = {}
        for path, node in self.members:
            parent, _, name = path.rpartition("/")
            children.setdefault(parent, []).append((name, node))
        lines = [self.root]
        waiting = [("", name, node, "") for name, node in reversed(children.get("", []))]
        last = {id(siblings[-1][1]) for siblings in children.values()}
        while waiting:
            parent, name, node, indent = waiting.pop()
            is_last = id(node) in last
            what = f" {node.shape} {node.dtype}" if isinstance(node, Array) else ""
            if isinstance(node, GpuzarrError):
                what = f" cannot be opened: {textwrap.shorten(node.message, 72)}"
            lines.append(f"{indent}{'└── ' if is_last else '├── '}{name}{what}")
            path = f"{parent}/{name}" if parent else name
            below = indent + ("    " if is_last else "│   ")
            waiting.extend(
                (path, child, child_node, below)
                for child, child_node in reversed(children.get(path, []))
            )
        return "\n".join(lines)

    __repr__ = __str__
