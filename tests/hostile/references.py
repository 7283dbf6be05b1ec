"""Reference files: damaged, that lie, that explode, that lead outside; JSON and Parquet."""

from __future__ import annotations

import base64
import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.stores.references.store import ReferenceStore
from tests.arrays import plain_store
from tests.hostile.bases import METADATA
from tests.hostile.documents import ODD, alter, damage_text
from tests.hostile.far import Far
from tests.hostile.inputs import Hostile, Later, Promise, Tools, kind
from tests.hostile.places import secret_store, write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from random import Random

    from tests.hostile.bases import Base

FILE = "data.bin"
"""What references point into."""
HUGE = (-1, 0, 1, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 10**400)
NO_FILES = (
    *("", ".", "..", "/", "nothing.bin", "x" * 5000, "a/" * 3000, "\0", f"{FILE}\0", f"{FILE}/"),
    *(f"{FILE}/x", "folder", "pipe", "loop", "/dev/zero", "/dev/stdin", "/proc/self/mem", "~"),
    *(
        "\ud800",
        "file://elsewhere/x",
        "file:",
        "file://",
        "far://",
        "far://host",
        "far://host/../x",
    ),
    *("http://", "http://[", "s3://", "memory://b/x", "ftp://host/x", "zip://a::file://b", "C:\\x"),
    *("http://host/x?y#z", "{{u}}", "{{", "://", "a://", "data:,x", "python://os", "%2e%2e/x"),
)
INLINE = ("base64:", "base64:=", "base64:A", "base64:AAAA", "base64:\xe9", "base64:" + "A" * 5000)
EXPRESSIONS = (
    *("u", "i", "nothing", "", " ", "i*i*i*i", "9223372036854775807+i", "1//i", "1%i", "-i", "1/i"),
    *(
        "f(c=i)",
        "f(c=f(c=f(c=u)))",
        "f()",
        "f(i)",
        "f(**u)",
        "f(c=f)",
        "g(c=u)",
        "h(c='')",
        "'x'*9",
    ),
    *(
        "u.x",
        "u[0]",
        "u.__class__",
        "__import__('os')",
        "lambda: 1",
        "[i for i in u]",
        "{u}",
        "i;i",
    ),
    *(
        "2**99",
        "1<<99",
        "i if i else i",
        "(" * 90 + "i" + ")" * 90,
        "-" * 200 + "i",
        "~" * 200 + "i",
    ),
    *("i+" * 120 + "i", "1" * 200, "0x" + "f" * 20, "1e9", "True", "\0", "\ud800", "f'{i}'", "\\"),
)


def referenced(chance: Random, base: Base) -> tuple[dict[str, Any], bytes]:
    """A base as references of version 0, and the bytes of the file that they point into."""
    references: dict[str, Any] = {}
    body = b"HDF"
    for key, value in base.values.items():
        if key.rpartition("/")[2] in METADATA:
            references[key] = value.decode()
        elif chance.random() < 0.2:
            references[key] = inline(value)
        else:
            references[key] = [FILE, len(body), len(value)]
            body += value + b"gap" * chance.randrange(2)
    return references, body


def inline(value: bytes) -> str:
    """Bytes as the text of a reference."""
    return "base64:" + base64.b64encode(value).decode()


def saved(tools: Tools, document: bytes, body: bytes) -> Path:
    """References on disk, and what odd ones find beside them."""
    root = tools.folder / "inside"
    write(root, {FILE: body, "references.json": document})
    (root / "folder").mkdir()
    os.mkfifo(root / "pipe")
    (root / "loop").symlink_to("loop")
    return root / "references.json"


def far_away(document: Mapping[str, Any], body: bytes) -> ReferenceStore:
    """References into an object of another store."""
    store = ReferenceStore.from_document(document, base="far://host", name="<references>")
    store._targets._stores["far://host"] = Far({FILE: body})  # noqa: SLF001  whose URL nothing opens
    return store


def placed(chance: Random, tools: Tools, document: dict[str, Any], body: bytes) -> Path | Later:
    """References to a local file, or to an object of a store that is far away."""
    data = json.dumps(document).encode()
    if chance.random() < 0.5:
        return saved(tools, data, body)
    return Later(partial(far_away, document, body), {"references.json": data})


def lie(chance: Random, base: Base, key: str, body: bytes) -> tuple[Any, Promise]:
    """What is no reference, or one to elsewhere; what is read then."""
    value = base.values[key]
    at = max(body.find(value), 0)
    checked = base.index is None or base.index.checked
    told: Promise = "told" if checked and value in body else "any"
    how = chance.randrange(9)
    if how == 0:
        return chance.choice(ODD), "any"
    if how == 1:
        return [chance.choice(NO_FILES)], "refuse"
    if how == 2:
        return [chance.choice(NO_FILES), 3, len(value)], "refuse"
    if how == 3:
        return [FILE, chance.choice(HUGE), len(value)], "any"
    if how == 4:
        return [FILE, at, chance.choice(HUGE)], "any"
    if how == 5:
        return chance.choice(INLINE), "any"
    if how == 6:
        size = chance.randrange(len(value))
        return chance.choice([[FILE, at, size], inline(value[:size])]), told
    if how == 7:
        odd: Any = chance.choice([1.0, "3", None, True, [], {}, float("nan"), -0.0])
        return chance.choice(
            [[FILE, odd, 3], [FILE, 3, odd], [odd], [FILE, 3], [odd] * 4]
        ), "refuse"
    return [FILE, at + chance.choice([-3, -1, 1, 3]), len(value)], "any"


@kind("references", 12, "as damaged chunks")
def values(chance: Random, tools: Tools) -> Hostile:
    """The reference of a chunk or shard; the others and the metadata are whole."""
    bases = tools.bases_where("with bytes", lambda base: any(map(base.values.get, base.objects)))
    base = chance.choice(bases)
    references, body = referenced(chance, base)
    key = chance.choice([key for key in base.objects if base.values[key]])
    bad, promise = lie(chance, base, key, body)
    document = {**references, key: bad}
    if chance.random() < 0.3:
        document = {"version": 1, "templates": {"u": FILE}, "refs": document}
        promise = "any" if promise == "refuse" and "{{u}}" in bad else promise
    store = placed(chance, tools, document, body)
    what = f"{base.name}, {key}: the reference {str(bad)[:80]!r}"
    return Hostile(what, store, base, frozenset([key]), promise=promise)


@kind("text of references", 6, "an error, or the shape and type that the metadata say")
def text(chance: Random, tools: Tools) -> Hostile:
    """Of all references: as text, or any values of it."""
    base = chance.choice(tools.bases)
    references, body = referenced(chance, base)
    document = references
    if chance.random() < 0.5:
        document = {"version": 1, "templates": {"u": "x"}, "gen": [], "refs": references}
    if chance.random() < 0.5:
        altered, what = alter(chance, document, chance.choice([1, 1, 2, 5]))
        data = json.dumps(altered).encode()
    else:
        data, what = damage_text(chance, json.dumps(document).encode(), sorted(document))
    return Hostile(f"{base.name}, references: {what}", saved(tools, data, body), base)


def explosive(chance: Random) -> dict[str, Any]:
    """Templates, and an entry of "gen", some of which would become very many or very long."""
    pick = chance.choice
    word = "{{" + pick(EXPRESSIONS) + "}}"
    few: tuple[Any, ...] = (0, 1, 3, 100, 1000, "3", None)
    count = pick(few if chance.random() < 0.8 else (1 << 14, 1 << 40, 2**63 - 1, 2**63, 10**400))
    span = {"start": pick([0, 0, -3, 2**62]), "stop": count, "step": pick([1, 1, -1, 0])}
    dimensions: Any = {"i": pick([span, span, [0, 1, count], [], {}, count])}
    for number in range(pick([0, 0, 0, 1, 3, 100])):
        dimensions[f"n{number}"] = pick([{"stop": 2}, {"stop": 1}, [0] * 100])
    key = pick(["c/{{i}}", "c/0", "zarr.json", "../{{i}}", word, "{{i}}" + "x" * 16_000])
    entry: dict[str, Any] = {"key": key * pick([1, 1, 1, 2]), "url": FILE}
    entry |= {"dimensions": dimensions}
    if chance.random() < 0.7:
        entry |= {"offset": pick(["0", "{{i}}", word, 3, -1]), "length": pick(["4", word])}
    body = pick(["{{c}}", "{{c}}{{c}}", "{{c}}" * 3000, word, word * 60])
    long = "x" * pick([1, 16_000, 20_000])
    return {
        "version": 1,
        "templates": {"u": long, "f": body, "h": "{{c}}" * 3000},
        "gen": [entry] * pick([1, 1, 2, 20]),
    }


@kind("templates of references", 4, "as references; refused, in little memory and time")
def templates(chance: Random, tools: Tools) -> Hostile:
    """In the URL of a chunk, and beside it entries that are made by rules."""
    base = chance.choice(tools.bases_where("with objects", lambda base: bool(base.objects)))
    references, body = referenced(chance, base)
    document = explosive(chance)
    if chance.random() < 0.5:
        document["gen"] = []
    key = chance.choice(sorted(base.objects))
    url = ("{{" + chance.choice(EXPRESSIONS) + "}}") * chance.choice([1, 1, 1, 2, 1400])
    references[key] = [url, 3, len(base.values[key])]
    document["refs"] = references
    data = json.dumps(document).encode()
    what = f"{base.name}: {url[:60]!r}, {str(document['gen'])[:120]}"
    return Hostile(what, saved(tools, data, body), base)


@kind("references that lead outside", 5, "refused; nothing outside is read")
def outside(chance: Random, tools: Tools) -> Hostile:
    """With `allowed_targets`, or from the network: local files, links, and other hosts."""
    write(tools.folder / "beside", secret_store())
    beside = tools.folder / "beside"
    root = tools.folder / "inside"
    root.mkdir()
    (root / "link").symlink_to(beside)
    (root / "file").symlink_to(beside / "0")
    (root / "in").mkdir()
    whole = plain_store(np.zeros(8, np.int32), (4,))
    ways = [
        *(str(beside / "0"), f"file://{beside}/0", f"FILE://{beside}/0", f"local://{beside}/0"),
        *(f"file://localhost{beside}/0", f"{root}/../beside/0", f"file://{root}/%2e%2e/beside/0"),
        *(f"{root}/in/../../beside/0", "../beside/0", "in/../../beside/0", "link/0", "file"),
        *("link/c/0", f"{root}/link/0", f"{root}x/../beside/0", f"{root}//../beside/0"),
        *(f"/proc/self/root{beside}/0", f"file:{beside}/0", f"file:/{beside}/0", f" {beside}/0"),
        *(f"\\\\?\\{beside}\\0", "{{u}}/0", "http://127.0.0.1:9/x", "http://localhost:9/0"),
        *("http://[::1]:9/0", "https://host@127.0.0.1/0", "s3://other/0", "gs://other/0"),
        *("memory://other/0", "far://other/0", "far://hostile/0", "far://host/../other/0"),
        *("far://HOST/beside/0", "far://host/in/../beside/0", "far://host/inside/../beside/0"),
        *(f"zip://0::file://{beside}/x.zip", f"simplecache::{beside}/0"),
    ]
    far = chance.random() < 0.4
    # From there other hosts may be read, but none is asked: there is none.
    local = [way for way in ways if "://" not in way or way.lower().startswith(("file", "local"))]
    way = chance.choice(local if far else ways)
    place = chance.choice([[way], [way, 0, 16], [way, 0, 4]])
    references = {"zarr.json": whole["zarr.json"].decode(), "c/0": place, "c/1": place}
    document = {"version": 1, "templates": {"u": str(beside)}, "refs": references}
    said = json.dumps(references).replace(str(tools.folder), "")
    store = Later(partial(_limited, document, root, far=far), {"references.json": said.encode()})
    what = f"{'from the network' if far else 'allowed'}: {way.replace(str(tools.folder), '')}"
    return Hostile(what, store, look="node", path="")


def _limited(document: dict[str, Any], root: Path, *, far: bool) -> ReferenceStore:
    """References that may not read all."""
    if far:
        store = ReferenceStore.from_document(document, base="far://host/inside")
        store._targets._stores["far://host"] = Far({})  # noqa: SLF001  whose URL nothing opens
        return store
    allowed: list[str | Path] = [root, "far://host/inside"]
    return ReferenceStore.from_document(document, base=root, allowed_targets=allowed)
