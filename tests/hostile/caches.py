"""Folders of a cache: damaged files, files of others, and what is no file at all."""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c

from gpuzarr.stores.cached.file import BLOCK_NBYTES, MAGIC
from gpuzarr.stores.cached.store import CachedStore
from tests.hostile.documents import ODD
from tests.hostile.far import Far
from tests.hostile.inputs import Hostile, Later, Tools, kind
from tests.hostile.payloads import flip
from tests.hostile.places import put_odd, secret_store, write

if TYPE_CHECKING:
    from random import Random

    from gpuzarr.stores.store import Store
    from tests.hostile.bases import Base

MOST_NBYTES = 1 << 24
ROOT = "gpuzarr-cache"
ODD_NAMES = (
    *("x", "a_b_c_d", "0_1_2", "0_1_2_3_4", "0_99999999999999999999_x_{v}", "0_8_-1_{v}"),
    *(
        "0_8_a_{v}",
        "0_8_8_{v}",
        "-8_0_x_{v}",
        "5_3_x_{v}",
        "0_0_0_{v}",
        "\u0663_8_x_{v}",
        "{n}.old",
    ),
    *("0_1_1_{v}", "00_8_x_{v}", "0_8_x_zz", "1e3_8_x_{v}", "0_" + "9" * 200 + "_x_{v}", "partial"),
)


def cached(store: Store, folder: Path) -> CachedStore:
    """A cache that keeps all, documents too."""
    return CachedStore(store, MOST_NBYTES, folder, documents=True)


def filled(base: Base) -> dict[str, bytes]:
    """The files of a cache in which all of a base is."""
    with tempfile.TemporaryDirectory() as folder:
        store = cached(Far(base.values), Path(folder))
        for key, value in base.values.items():
            store.read(key, 0, len(value) // 2)
            store.read(key)
            store.read(key, len(value) // 3)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def forged(chance: Random, data: bytes) -> tuple[bytes, str]:
    """A file whose document says something else, with the checksum of that."""
    _, _, nbytes = struct.unpack_from("<8sII", data)
    document: dict[str, Any] = json.loads(data[16 : 16 + nbytes])
    name = chance.choice(sorted(document))
    old = document[name]
    odd: list[Any] = [chance.choice(ODD), {"tuple": [[1]]}, {"tuple": "ab"}, {"bytes": 5}, [], {}]
    odd += [float(old), bool(old), str(old), old + 1] if isinstance(old, int) else []
    document[name] = chance.choice(odd)
    what = f"{name} is {str(document[name])[:40]!r}"
    text = json.dumps(document).encode()
    if chance.random() < 0.1:
        deep = chance.choice([100, 5000])
        text = b'{"a":' + b"[" * deep + b"]" * deep + b"}"
        what = f"{deep} lists"
    rest = data[16 + nbytes :]
    table_nbytes = 4 * -(-len(rest) // (BLOCK_NBYTES + 4))
    head = struct.pack("<I", len(text)) + text + rest[:table_nbytes]
    checksum = struct.pack("<I", google_crc32c.value(head))
    return MAGIC + checksum + head + rest[table_nbytes:], f"forged: {what}"


def damage_file(chance: Random, path: Path) -> str:
    """Other bytes in a file."""
    data = path.read_bytes()
    how = chance.randrange(4)
    if how == 0 or not data:
        size = chance.randrange(len(data) + 1)
        path.write_bytes(data[:size])
        return f"cut to {size}"
    if how == 1:
        path.write_bytes(data + chance.randbytes(chance.choice([1, 70_000])))
        return "followed by more"
    made, what = flip(chance, data) if how == 2 or path.name == "lock" else forged(chance, data)
    path.write_bytes(made)
    return what


def damage(chance: Random, folder: Path, beside: Path) -> str:
    """One thing in the folder is not as it was."""
    files = sorted(path for path in folder.rglob("*_*") if path.is_file())
    path, other = chance.choice(files), chance.choice(files)
    how = chance.choice(
        [_bytes, _bytes, _bytes, _count, _exchange, _rename, _mix, _link, _odd, _own]
    )
    return how(chance, path, other, beside)


def _root(path: Path) -> Path:
    return path.parents[2]


def _bytes(chance: Random, path: Path, _other: Path, _beside: Path) -> str:
    return f"{path.name}: {damage_file(chance, path)}"


def _count(chance: Random, path: Path, other: Path, beside: Path) -> str:
    return _bytes(chance, _root(path) / "lock", other, beside)


def _exchange(_chance: Random, path: Path, other: Path, _beside: Path) -> str:
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)
    return f"{path.name} and {other.name} exchanged"


def _rename(chance: Random, path: Path, _other: Path, _beside: Path) -> str:
    name = chance.choice(ODD_NAMES).format(v=path.name.rpartition("_")[2], n=path.name)
    data = path.read_bytes()
    if chance.random() < 0.5:
        path.unlink()
    (path.parent / name).write_bytes(data)
    return f"{path.name} is called {name[:40]}"


def _mix(_chance: Random, path: Path, other: Path, _beside: Path) -> str:
    if path.parent != other.parent:
        shutil.copytree(path.parent, other.parent, dirs_exist_ok=True)
    return f"{path.parent.name} lies in {other.parent.name}, too"


def _link(chance: Random, path: Path, _other: Path, beside: Path) -> str:
    target = chance.choice([path.parent, path.parent.parent])
    shutil.move(target, beside / "moved")
    target.symlink_to(beside / "moved")
    return f"{target.name} is a link"


def _odd(chance: Random, path: Path, _other: Path, beside: Path) -> str:
    path.unlink()
    return f"{path.name} is {put_odd(chance, path, beside)}"


def _own(chance: Random, path: Path, _other: Path, beside: Path) -> str:
    """What every process writes to; and something is missing, so that it is written."""
    place = _root(path) / chance.choice(["lock", "partial"])
    place.unlink(missing_ok=True)
    shutil.rmtree(path.parent)
    return f"{place.name} is {put_odd(chance, place, beside)}"


@kind("folders of a cache", 9, "no error, and never other values")
def folders(chance: Random, tools: Tools) -> Hostile:
    """Of an array that is whole itself, so that no error is due."""
    bases = tools.bases_where("with bytes", lambda base: any(map(base.values.get, base.objects)))
    base = chance.choice(bases)
    folder, beside = tools.folder / "cache", tools.folder / "beside"
    write(folder, tools.once(("cache", base.name), lambda: filled(base)))
    write(beside, secret_store())
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o700 if path.is_dir() else 0o600)
    what = f"{base.name}, cache: {damage(chance, folder, beside)}"
    files = {
        str(path.relative_to(folder)): b""
        if path.is_symlink() or not path.is_file()
        else _head(path)
        for path in folder.rglob("*")
    }
    store = Later(partial(_opened, base, folder), files)
    return Hostile(what, store, base, frozenset(), promise="told")


def _opened(base: Base, folder: Path) -> CachedStore:
    return cached(Far(base.values), folder)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(1 << 16)
