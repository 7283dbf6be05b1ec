"""Stores on disk that are not what they seem, and paths and keys that leave the root."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.arrays import encoded, plain_store, v3_metadata
from tests.hostile.bases import METADATA
from tests.hostile.inputs import KINDS, Hostile, Tools, changed, kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

    from tests.hostile.bases import Base

SECRET = 0x5EC7E75
"""The values of the array beside the store, which nobody may see."""
GROUP = encoded({"zarr_format": 3, "node_type": "group"})
GROUP_V2 = json.dumps({"zarr_format": 2}).encode()


def secret_store() -> dict[str, bytes]:
    """An array of v3 and of v2 that is not to be read."""
    found = plain_store(np.full(8, SECRET, np.int32), (4,))
    document = {"zarr_format": 2, "shape": [8], "chunks": [4], "dtype": "<i4", "order": "C"}
    document |= {"fill_value": SECRET, "filters": None, "compressor": None}
    return {**found, ".zarray": json.dumps(document).encode(), "0": found["c/0"], "1": found["c/1"]}


def write(folder: Path, values: Mapping[str, Any]) -> None:
    """Files of a store."""
    for key, value in values.items():
        file = folder / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(value)


def written(tools: Tools, base: Base) -> tuple[Path, Path]:
    """A base on disk, and a folder beside it with the array that is not to be read."""
    root, beside = tools.folder / "store", tools.folder / "beside"
    write(root, base.values)
    write(beside, secret_store())
    return root, beside


def replace(path: Path) -> None:
    """Take a file or directory away."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def put_odd(  # noqa: C901, PLR0912  one case after another
    chance: Random, path: Path, beside: Path
) -> str:
    """Something that is no regular file in the place of one, or one that is elsewhere."""
    how = chance.randrange(12)
    target: Path | str
    match how:
        case 0:
            path.mkdir()
            return "a directory"
        case 1:
            os.mkfifo(path)
            return "a pipe"
        case 2:
            with socket.socket(socket.AF_UNIX) as server:
                # Paths of sockets are short, so it is made where the path is short.
                folder = os.open(path.parent, os.O_RDONLY)
                try:
                    server.bind(f"/proc/self/fd/{folder}/{path.name}")
                finally:
                    os.close(folder)
            return "a socket"
        case 3:
            path.write_bytes(b"")
            path.chmod(0)
            return "a file without permissions"
        case 4:
            path.touch()
            os.truncate(path, 1 << 40)
            return "a sparse file of 1 TiB"
        case 5:
            target = "/dev/zero"
        case 6:
            target = "/dev/stdin"
        case 7:
            target = path.name
        case 8:
            target = beside / "c" / "0"
        case 9:
            target = Path("..") / "beside" / "zarr.json"
        case 10:
            target = "/proc/self/environ"
        case _:
            target = beside / "nothing"
    path.symlink_to(target)
    return f"a link to {Path(target).name}"


@kind("files that are none", 4, "refused, without waiting")
def odd_files(chance: Random, tools: Tools) -> Hostile:
    """In the place of a chunk, shard or document."""
    base = chance.choice(tools.bases_where("with objects", lambda base: bool(base.objects)))
    root, beside = written(tools, base)
    of_metadata = chance.random() < 0.3
    key = base.document_key if of_metadata else chance.choice(sorted(base.objects))
    replace(root / key)
    what = put_odd(chance, root / key, beside)
    hostile = Hostile(f"{base.name}, {key}: {what}", root, base)
    if of_metadata:
        return hostile
    return Hostile(hostile.what, root, base, frozenset([key]))


@kind("links that leave the root", 3, "refused; nothing outside is read")
def links(chance: Random, tools: Tools) -> Hostile:
    """Files or folders of a store are links to what lies beside it."""
    base = chance.choice(tools.bases_where("with objects", lambda base: bool(base.objects)))
    root, beside = written(tools, base)
    how = chance.randrange(5)
    if how == 0:
        key = chance.choice(sorted(base.objects))
        replace(root / key)
        (root / key).symlink_to(
            chance.choice(
                [beside / "c" / "0", Path(os.path.relpath(beside / "0", (root / key).parent))]
            )
        )
        return Hostile(
            f"{base.name}, {key}: a link", root, base, frozenset([key]), promise="refuse"
        )
    if how == 1:
        shutil.rmtree(root)
        root.mkdir()
        (root / "zarr.json").write_bytes(GROUP)
        (root / "a").symlink_to(chance.choice([beside, Path("..") / "beside"]))
        return Hostile("a member that is a link", root, look="node", path=chance.choice(["", "a"]))
    if how == 2:
        write(root, {"g/zarr.json": GROUP, "g/deep/zarr.json": GROUP})
        (root / "g" / "deep" / "up").symlink_to(Path("..") / ".." / "..")
        path = chance.choice(["g", "g/deep/up/beside", "g/deep/up", "g/deep/up/store/g"])
        return Hostile(f"a link to above the root: {path}", root, look="node", path=path)
    if how == 3:
        replace(root / base.document_key)
        (root / base.document_key).symlink_to(beside / Path(base.document_key).name)
        return Hostile(f"{base.name}: the document is a link", root, base)
    write(root, {"g/zarr.json": GROUP})
    (root / "g" / "round").symlink_to(root / "g")
    (root / "g" / "self").symlink_to("self")
    path = chance.choice(["g", "g/round", "g/round/round/round", "g/self"])
    return Hostile(f"links that lead round: {path}", root, look="node", path=path)


def bad_paths(chance: Random, beside: str) -> str:
    """The path of a node that is not below the root."""
    up = chance.choice(
        ["..", "../..", "a/../..", "./..", "a/b/../../..", "..\\..", "%2e%2e", "..\0"]
    )
    name = chance.choice([beside, "", "c/0", "zarr.json"])
    return chance.choice(
        [
            f"{up}/{name}", f"{up}/beside", "../beside", f"/{up}/beside", "a//../beside",
            "//beside",
            ".", "..", "./a", "a/.", "a/..", "\0", "a\0b", "a\\..\\..\\b", "/etc",
            "/etc/passwd", "~", "~root", "C:/x", "file:///etc", "con", "a" * 5000,
            "/".join("a" * 3000), "\ud800", "é" * 300, "\n", "c", "c/0", "zarr.json", ".zarray",
            "c/0/zarr.json",
        ]
    )  # fmt: skip


@kind("paths that leave the root", 6, "refused; nothing outside is read")
def paths(chance: Random, tools: Tools) -> Hostile:
    """As the path of the node, or as names in a store that is a mapping."""
    how = chance.randrange(3)
    if how == 0:
        root = tools.folder / "store"
        write(root, {"zarr.json": GROUP, "a/zarr.json": GROUP})
        write(tools.folder / "beside", secret_store())
        path = bad_paths(chance, str(tools.folder / "beside"))
        said = path.replace(str(tools.folder), "")[:80]
        return Hostile(f"path {said!r}", root, look="node", path=path)
    bad = bad_paths(chance, "beside")
    if how == 1:
        store: dict[str, Any] = {"zarr.json": GROUP, "a/zarr.json": GROUP}
        leaves = not {"", ".", ".."}.isdisjoint(bad.strip("/").split("/")) or "\\" in bad
        hidden = secret_store() if leaves else plain_store(np.arange(8, dtype=np.int32), (4,))
        store |= {f"{bad}/{key}": value for key, value in hidden.items()}
        path = bad if chance.random() < 0.7 else ""
        return Hostile(f"a mapping with keys below {bad[:80]!r}", store, look="node", path=path)
    encoding = chance.choice(
        [
            {"name": "default", "configuration": {"separator": sep}}
            for sep in ("", "..", "/../", "\0", "//", "\\", "-")
        ]
    )
    document = v3_metadata((8,), (4,)) | {"chunk_key_encoding": encoding}
    store = {"zarr.json": encoded(document), "c/../0": b"", "../c/0": b"x" * 16}
    return Hostile(f"chunk keys with {encoding}", store, path="")


@kind("consolidated metadata", 50, "an error or nodes below the root; nothing outside is read")
def consolidated(chance: Random, tools: Tools) -> Hostile:
    """Of both formats: paths that leave the root, documents that contradict, anything altered."""
    some = [chance.choice(tools.bases) for _ in range(2)]
    v3 = chance.random() < 0.5
    some = [base for base in some if (base.document["zarr_format"] == 3) == v3 and not base.path]
    store: dict[str, Any] = {}
    nodes: dict[str, Any] = {}
    for number, base in enumerate(some):
        name = f"n{number}"
        store |= {f"{name}/{key}": value for key, value in base.values.items()}
        nodes[name if v3 else f"{name}/.zarray"] = base.document
    group: Any = {"zarr_format": 3 if v3 else 2} | ({"node_type": "group"} if v3 else {})
    nodes |= {"g": group} if v3 else {".zgroup": group, "g/.zgroup": group, "g/.zattrs": {"a": 1}}
    what = []
    for _ in range(chance.choice([0, 1, 1, 2])):
        bad = (
            bad_paths(chance, "beside")
            if chance.random() < 0.5
            else chance.choice(["n0", "g", "g/n0", "n0/c", "x/y", "n0/n1/n2"])
        )
        document = chance.choice(
            [group, *(base.document for base in tools.bases[:40]), {}, None, 1]
        )
        nodes[bad if v3 else f"{bad}/{chance.choice(METADATA)}"] = document
        what.append(repr(bad)[:60])
    from tests.hostile.documents import alter  # noqa: PLC0415  which need not know of this

    if v3:
        inline: Any = {"kind": "inline", "must_understand": False, "metadata": nodes}
        whole: Any = group | {"consolidated_metadata": inline}
    else:
        whole = {"zarr_consolidated_format": 1, "metadata": nodes}
        store[".zgroup"] = GROUP_V2
    if chance.random() < 0.6:
        whole, said = alter(chance, whole, 1)
        what.append(said)
    store["zarr.json" if v3 else ".zmetadata"] = json.dumps(whole).encode()
    if chance.random() < 0.3 and some:
        # What the nodes themselves say is something else.
        key = f"n0/{some[0].document_key}"
        other = chance.choice(tools.bases)
        store[key] = other.values[other.document_key] if chance.random() < 0.5 else b"{}"
        what.append("n0 contradicts")
    path = chance.choice(["", "", "n0", "g", "n1"])
    return Hostile(
        f"consolidated v{3 if v3 else 2}: {'; '.join(what)}"[:400], store, look="node", path=path
    )


ALSO_ON_DISK = (
    "truncated",
    "followed by more bytes",
    "flipped bits, with a checksum",
    "numbers replaced",
    "other bytes",
    "several chunks damaged",
    "entries of a shard index",
    "all entries of a shard index",
    "values in metadata",
)


@kind("damaged files", 12, "as in memory")
def files(chance: Random, tools: Tools) -> Hostile:
    """What other kinds make, in a directory: other code reads it."""
    hostile = KINDS[chance.choice(ALSO_ON_DISK)].make(chance, tools)
    root = tools.folder / "store"
    write(root, hostile.store)
    return dataclasses.replace(hostile, what=f"on disk: {hostile.what}", store=root)


class Unruly(dict[str, Any]):
    """A mapping that gives what is no bytes, fails, or says something else the second time."""

    def __init__(self, values: Mapping[str, Any], bad: str, how: int) -> None:
        super().__init__(values)
        self.bad, self.how, self.asked = bad, how, 0

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if key != self.bad:
            return value
        self.asked += 1
        errors: list[Exception] = [OSError(5, "broken"), ValueError("odd"), RecursionError("deep")]
        errors += [
            MemoryError("none"),
            TypeError("what"),
            UnicodeDecodeError("utf-8", b"a", 0, 1, "x"),
        ]
        if self.how < len(errors):
            raise errors[self.how]
        odd = [
            "text", 7, None, [1, 2], np.zeros((2, 3))[:, ::2], np.array([None]), np.float64(1),
            bytearray(value), memoryview(value)[::-1], value[: self.asked],
            value if self.asked % 2 else b"",
        ]  # fmt: skip
        return odd[(self.how - len(errors)) % len(odd)]


@kind("mappings that misbehave", 10, "an error of the store, or what the bytes say")
def mappings(chance: Random, tools: Tools) -> Hostile:
    base = chance.choice(tools.bases_where("with objects", lambda base: bool(base.objects)))
    of_metadata = chance.random() < 0.2
    key = base.document_key if of_metadata else chance.choice(sorted(base.objects))
    how = chance.randrange(17)
    store = Unruly(changed(base, {}), key, how)
    what = f"{base.name}: a mapping that misbehaves ({how}) for {key}"
    return Hostile(what, store, base, None if of_metadata else frozenset([key]))
