"""What references point to: local files, and objects of other stores.

A URL of a reference becomes a path, or a store (one a host or bucket, opened when it is first
needed and kept) and a key in it. Whether it may be read at all is decided here.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from gpuzarr.errors import StoreError, UnsupportedError
from gpuzarr.stores.files import advise
from gpuzarr.stores.references.files import OpenFiles
from gpuzarr.stores.store import check_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.stores.store import Store

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
"""How a URL begins; two letters at least: "C:" is a drive."""

MOST_REMEMBERED = 1 << 14
"""URLs whose targets are remembered; beyond that all are forgotten and looked at again."""

LONGEST_URL = 1 << 12
"""Characters of a URL or path; no system has longer paths."""

_CHAINED = re.compile(r"[A-Za-z0-9+.-]+::")
_LOCAL = frozenset({"file", "local"})
_QUOTED = frozenset({"http", "https"})


class FileTarget(NamedTuple):
    """A local file."""

    path: str


class ObjectTarget(NamedTuple):
    """An object of a store."""

    store: Store
    key: str


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How targets are opened, and which."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """`storage_options` for them; or for each of some schemes its own."""
    protocol: str | None = None
    """The scheme of URLs without one; None: they are paths."""
    allowed: tuple[str, ...] | None = None
    """Folders and URLs of folders outside of which nothing is read; None: no such limit."""


class Targets:
    """Targets by URL."""

    def __init__(self, base: str, options: TargetOptions) -> None:
        """Decide what is read; nothing is opened yet.

        Args:
            base: the folder that relative paths start from: an absolute path, or a URL.
            options: how targets are opened, and which.

        Raises:
            UnsupportedError: `allowed` holds something that is no folder.
        """
        self.base = base
        self.options = options
        self.files = OpenFiles()
        self._targets: dict[str, FileTarget | ObjectTarget] = {}
        self._stores: dict[str, Store] = {}
        allowed = options.allowed
        self._allowed = None if allowed is None else tuple(self._folder(each) for each in allowed)

    def is_local(self, url: str) -> bool:
        """Whether a URL, or the part of one before its templates, is a local file's."""
        if SCHEME.match(url):
            return is_local_url(url)
        if self.options.protocol is not None:
            return self.options.protocol in _LOCAL
        return not SCHEME.match(self.base)

    def find(self, url: str) -> FileTarget | ObjectTarget:
        """What a URL names.

        Raises:
            StoreError: it may not be read, or names nothing that could be.
            UnsupportedError: nothing here opens such URLs.
        """
        target = self._targets.get(url)
        if target is None:
            target = self._look_up(url)
            if len(self._targets) >= MOST_REMEMBERED:
                self._targets = {}
            self._targets[url] = target
        return target

    def _look_up(self, url: str) -> FileTarget | ObjectTarget:
        whole = self._whole(url)
        scheme = SCHEME.match(whole)
        if scheme is None:
            try:
                path = os.path.realpath(whole)
            except (OSError, ValueError) as error:
                raise StoreError(f"{_short(url)}: {advise(error)}") from error
            self._check_allowed("", path, url)
            return FileTarget(path)
        root, key = _split_url(whole)
        if root.partition(":")[0] in _QUOTED:
            if "?" in key or "#" in key:
                raise UnsupportedError(f"{_short(url)}: URLs with queries are not read")
            key = unquote(key)
        check_key(key)
        self._check_allowed(root, key, url)
        return ObjectTarget(self._open(root), key)

    def _whole(self, url: str) -> str:
        """An absolute path for a local file, else a URL with a scheme."""
        _check_name(url)
        protocol, remote = self.options.protocol, SCHEME.match(self.base) is not None
        if SCHEME.match(url) is None:
            if protocol is not None and protocol not in _LOCAL:
                return f"{protocol}://{url}"
            if not remote:
                return os.path.join(self.base, url)  # noqa: PTH118  realpath comes
            if not url.startswith("/"):
                root, folder = _split_url(self.base)
                return f"{root}/{posixpath.normpath(f'{folder}/{url}').lstrip('/')}"
        elif not is_local_url(url):
            return url
        path = path_of(url)
        if remote and self._allowed is None:
            raise StoreError(
                f"these references were read from {self.base} and point to the local file"
                f" {_short(path)}: such files are read where `allowed_targets` names their folder"
            )
        return path

    def _folder(self, allowed: str) -> tuple[str, str]:
        """An allowed folder: its root, and a path or key without a slash at its end."""
        if is_local_url(allowed):
            return "", os.path.realpath(path_of(allowed))
        root, key = _split_url(allowed)
        key = unquote(key) if root.partition(":")[0] in _QUOTED else key
        return root, key.strip("/")

    def _check_allowed(self, root: str, key: str, url: str) -> None:
        if self._allowed is None:
            return
        for allowed_root, folder in self._allowed:
            inside = not folder or key == folder or key.startswith(folder.rstrip("/") + "/")
            if root == allowed_root and inside:
                return
        raise StoreError(
            f"{_short(url)} is in none of the folders of `allowed_targets`: it is not read"
        )

    def _open(self, root: str) -> Store:
        store = self._stores.get(root)
        if store is None:  # another thread may open it too, and one of them is used
            store = self._stores.setdefault(root, open_url(root, self._options_for(root)))
        return store

    def _options_for(self, root: str) -> Mapping[str, Any]:
        options = self.options.options
        own = options.get(root.partition(":")[0])
        return own if isinstance(own, Mapping) else options


def read_options(
    storage_options: Mapping[str, Any] | None,
    allowed: Sequence[str | os.PathLike[str]] | None,
) -> tuple[TargetOptions, dict[str, Any]]:
    """What `storage_options` say about targets, and what is left for the reference file itself.

    Args:
        storage_options: `target_options` or fsspec's `remote_options`, `remote_protocol`,
            `target_protocol`, `allowed_targets`; all others are for the reference file.
        allowed: `allowed_targets`, when given apart.

    Raises:
        UnsupportedError: options that contradict each other, or of the wrong type.
    """
    rest = dict(storage_options or {})
    target, remote = rest.pop("target_options", None), rest.pop("remote_options", None)
    if target and remote and target != remote:
        raise UnsupportedError(
            "`target_options` and `remote_options` both say how targets are opened: give one"
        )
    options = target or remote or {}
    if not isinstance(options, Mapping):
        raise UnsupportedError(f"`target_options` must be a dict, not {type(options).__name__}")
    protocol = rest.pop("remote_protocol", None)
    rest.pop("target_protocol", None)  # of the reference file, whose URL says it
    listed = rest.pop("allowed_targets", None)
    allowed = listed if allowed is None else allowed
    if isinstance(allowed, (str, os.PathLike)):
        allowed = (os.fspath(allowed),)
    paths = None if allowed is None else tuple(os.fspath(each) for each in allowed)
    return TargetOptions(options, protocol, paths), rest


def is_local_url(url: str) -> bool:
    """Whether a URL is a local file's, as a path is."""
    scheme = SCHEME.match(url)
    return scheme is None or scheme[1].lower() in _LOCAL


def path_of(url: str) -> str:
    """An absolute path: of a `file://` URL, or of a path as it is.

    Raises:
        StoreError: a file of another machine.
    """
    scheme = SCHEME.match(url)
    if scheme is None:
        return os.path.abspath(url)  # noqa: PTH100 -- also tidies "a/../b"
    host, _, path = url[scheme.end() :].partition("/")
    if host not in {"", "localhost"}:
        raise StoreError(f"{_short(url)} names no file of this machine")
    return "/" + unquote(path, errors="surrogateescape")


def missing(key: str, store: str) -> StoreError:
    """The error for a reference that points to nothing."""
    return StoreError(f"there is no {_short(key)} in {store}: was it moved?")


def pointed(error: StoreError, key: str, store: str) -> StoreError:
    """The error for a key whose target could not be read; both are named."""
    return StoreError(f"what this key points to cannot be read: {error}", key=key, store=store)


def open_url(url: str, storage_options: Mapping[str, Any]) -> Store:
    """The store of a folder, host or bucket."""
    # Imported here: what a user may open are references too, which are opened there.
    from gpuzarr.stores.resolve import open_store  # noqa: PLC0415

    store, inside = open_store(url, storage_options=storage_options or None)
    if inside:
        raise UnsupportedError(f"{_short(url)} is no folder")
    return store


def _check_name(url: str) -> None:
    """Refuse what names no file, wherever it may be.

    Raises:
        StoreError: it names none.
        UnsupportedError: only fsspec knows what it names.
    """
    if not url or "\0" in url:
        raise StoreError("the reference names no file")
    if len(url) > LONGEST_URL:
        raise StoreError(
            f"the reference's URL {_short(url)} has {len(url)} characters; at most"
            f" {LONGEST_URL} are read"
        )
    if url.endswith("/"):
        raise StoreError(f"the reference names a folder: {_short(url)}")
    if _CHAINED.match(url):
        raise UnsupportedError(f"{_short(url)}: chained URLs are not read")


def _split_url(url: str) -> tuple[str, str]:
    """The host or bucket of a URL, and the rest.

    >>> _split_url("s3://bucket/a/b.nc")
    ('s3://bucket', 'a/b.nc')
    """
    scheme, _, rest = url.partition("://")
    host, _, key = rest.partition("/")
    scheme = scheme.lower()
    return f"{scheme}://{host.lower() if scheme in _QUOTED else host}", key


def _short(url: str) -> str:
    return repr(url if len(url) <= 200 else f"{url[:197]}...")  # noqa: PLR2004  a line or two
