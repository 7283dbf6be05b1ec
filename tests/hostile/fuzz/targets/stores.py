"""Zip archives of anyone's, and keys of anyone's in stores of one's own."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zipfile
import zlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import gpuzarr
from gpuzarr.errors import GpuzarrError
from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.memory import MappingStore
from gpuzarr.stores.zip.store import ZipStore
from tests.hostile.fuzz.draw import Draw
from tests.hostile.fuzz.target import Outcome, Target, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuzarr.stores.store import Store

MOST_ENTRIES = 40
LARGE = 1 << 20
SECRET = b"what lies outside of the store"
OBJECTS = {
    "zarr.json": b'{"zarr_format": 3, "node_type": "group"}',
    "a/c/0": bytes(range(200)),
    "a/c/1": b"",
    "b": b"abc" * 50,
}


@cache
def folder() -> Path:
    """A folder of this process's own, removed at its end."""
    made = tempfile.TemporaryDirectory(prefix="gpuzarr-fuzz-")
    _kept.append(made)
    return Path(made.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


# ---------------------------------------------------------------------------------- archives


def check_zip(data: bytes) -> Outcome:
    """An archive: what is read of it is what Python's zipfile reads, or it is refused."""
    path = folder() / f"{os.getpid()}.zip"
    path.write_bytes(data)
    try:
        store = ZipStore(path, cache_nbytes=64)
    except GpuzarrError as error:
        return refused(error)
    for key in _keys_below(store, ""):
        _read_entry(store, key, data)
    try:
        gpuzarr.open(path, device="cpu")
    except GpuzarrError as error:
        refused(error)
    return "right"


def _keys_below(store: ZipStore, prefix: str) -> list[str]:
    """All keys, a folder at a time."""
    found: list[str] = []
    waiting = [prefix]
    while waiting and len(found) < MOST_ENTRIES:
        here = waiting.pop()
        for name, is_folder in store.list(here):
            below = f"{here}/{name}" if here else name
            (waiting if is_folder else found).append(below)
    return found[:MOST_ENTRIES]


def _read_entry(store: ZipStore, key: str, archive: bytes) -> None:
    """Whole, and in parts, which must be parts of the same."""
    size = store.size(key)
    assert size is not None
    try:
        blob = store.read(key)
    except GpuzarrError as error:
        refused(error)
        whole = None
    else:
        assert blob is not None
        whole = bytes(blob.data)
        assert len(whole) == size
        assert whole == _by_zipfile(archive, key, whole)
    for offset, nbytes in ((0, min(size, 3)), (size // 2, min(size - size // 2, 50)), (-7, -1)):
        try:
            blob = store.read(key, offset, nbytes)
        except GpuzarrError as error:
            refused(error)
            continue
        assert blob is not None
        start = offset if offset >= 0 else max(0, size + offset)
        stop = size if nbytes < 0 else start + nbytes
        assert len(blob.data) == stop - start
        assert whole is None or bytes(blob.data) == whole[start:stop]


def _by_zipfile(archive: bytes, key: str, otherwise: bytes) -> bytes:
    """What zipfile reads; where it reads nothing, at least the directory's CRC-32 is right."""
    with zipfile.ZipFile(io.BytesIO(archive)) as other:
        info = other.getinfo(key)
        assert zlib.crc32(otherwise) == info.CRC
        try:
            return other.read(key) if info.file_size < LARGE else otherwise
        except Exception:  # noqa: BLE001  zipfile raises whatever comes its way
            return otherwise


def _zip_seeds() -> list[bytes]:
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [*map(_pack, methods), _pack(zipfile.ZIP_STORED, force_zip64=True), _crafted()]


def _pack(method: int, *, force_zip64: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.comment = b"a comment"
        for key, value in OBJECTS.items():
            info = zipfile.ZipInfo(key)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=force_zip64) as entry:
                entry.write(value)
    return file.getvalue()


def _crafted() -> bytes:
    """An archive of one entry whose every field is near the beginning."""
    data = b"value"
    claims = struct.pack("<5H3L2H", 20, 0, 0, 0, 0, zlib.crc32(data), len(data), len(data), 3, 0)
    local = b"PK\3\4" + claims + b"key" + data
    central = b"PK\1\2" + struct.pack("<H", 20) + claims + struct.pack("<3H2L", 0, 0, 0, 0, 0)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(central) + 3, len(local), 0)
    return local + central + b"key" + end


ZIP_TOKENS = (
    *(b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\7\x08", b"../", b"/", b"\\"),
    *(b"\1\0", b"\x75\x70", b"\xff\xff\xff\xff", b"\xff\xff", b"\x0e\0", b"\x08\0", b"\x0c\0"),
)


# -------------------------------------------------------------------------------------- keys


@contextmanager
def _stores() -> Iterator[None]:
    """Stores of the same objects, beside something that must not be read."""
    root = folder() / "outer" / "root"
    if not root.exists():
        for key, value in OBJECTS.items():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(value)
        (root.parent / "secret").write_bytes(SECRET)
        (root.parent / "root2").mkdir()
        (root.parent / "root2" / "secret").write_bytes(SECRET)
        (root / "up").symlink_to("..")
        (root / "out").symlink_to(root.parent / "secret")
        (root / "round").symlink_to("round")
        (root / "a" / "inside").symlink_to("../b")
    yield


def check_path(data: bytes) -> Outcome:
    """A key, or a node's path: nothing outside of the store is read."""
    draw = Draw(data)
    with_links = draw.flag()
    key = draw.rest().decode("utf-8", "surrogateescape")
    root = folder() / "outer" / "root"
    local = LocalStore(str(root), follow_symlinks=with_links)
    mapping = MappingStore(OBJECTS)
    outcomes = [_read_key(local, key), _read_key(mapping, key)]
    due = OBJECTS.get(key)
    assert outcomes[1] in {due, None}
    if due is not None:
        assert outcomes == [due, due], key
    if not with_links:
        assert outcomes[0] in {*OBJECTS.values(), None}
        assert SECRET not in outcomes
    for store in (local, mapping):
        try:
            node = gpuzarr.open(store, path=key, device="cpu")
        except GpuzarrError as error:
            refused(error)
        else:
            assert not key.strip("/")
            assert isinstance(node, gpuzarr.Group)
            assert key in node or not key or not node.path
    return "right" if outcomes[0] is not None else "refused"


def _read_key(store: Store, key: str) -> bytes | None:
    """The object; None where it is refused or not there. Every other way in agrees."""
    try:
        blob = store.read(key)
    except GpuzarrError as error:
        refused(error)
        blob = None
    found = None if blob is None else bytes(blob.data)
    try:
        size = store.size(key)
        assert found is None or size == len(found)
    except GpuzarrError as error:
        refused(error)
        assert found is None
    try:
        for name, is_folder in store.list(key):
            assert name
            assert isinstance(is_folder, bool)
            assert "/" not in name
    except GpuzarrError as error:
        refused(error)
    try:
        path = store.path_of(key)
        assert path is None or found is None or path.read_bytes() == found
    except GpuzarrError as error:
        refused(error)
        assert found is None
    pending = store.start_reads([key, "b"], [0, 0], [2, 2])
    try:
        part = pending.result(0)
        assert (part is None) == (found is None)
    except GpuzarrError as error:
        refused(error)
    part = pending.result(1)
    assert part is not None
    assert bytes(part.data) == b"ab"
    return found


def _path_seeds() -> list[bytes]:
    keys = (
        *OBJECTS,
        "",
        "..",
        "../secret",
        "up/secret",
        "out",
        "a/../../secret",
        "/",
        "a",
        "round",
    )
    return [bytes([flag]) + key.encode() for flag in (0, 1) for key in keys]


PATH_TOKENS = (
    *(b"/", b"..", b".", b"../", b"\\", b"\0", b"secret", b"up/", b"out", b"a/", b"root2/", b"//"),
    *(b"%2e%2e", b"\xff", b"c/0", b"zarr.json", b"x" * 300, b"\xc0\xae", b":", b"~", b"round/"),
    *("\u2025".encode(), "\uff0e\uff0e".encode(), b"\n", b" ", b"inside", b"*", b"C:"),
)

TARGETS = (
    Target("zip", check_zip, _zip_seeds, 800, ZIP_TOKENS, longest=8_192),
    Target("paths", check_path, _path_seeds, 1_000, PATH_TOKENS, longest=300, around=_stores),
)
