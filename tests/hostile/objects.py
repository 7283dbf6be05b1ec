"""Text, bytes and objects: counts and lengths that lie, odd JSON and MessagePack, pickles."""

from __future__ import annotations

import json
import pickle
import struct
from typing import TYPE_CHECKING, Any

from tests.hostile.inputs import Hostile, Promise, Tools, changed, kind
from tests.hostile.payloads import damaged, pick

if TYPE_CHECKING:
    from random import Random

    from tests.hostile.bases import Base

COUNTS = (0, 1, 2, 3, 0xFF, 1 << 16, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
VARIABLE = {"vlen-utf8", "vlen-bytes"}
VARIABLE |= {f"numcodecs.{name}" for name in (*VARIABLE, "vlen-array")}
TRIPPED: list[int] = []
"""Not empty once code ran that came with data."""


def stored_as(base: Base, codecs: set[str]) -> bool:
    """Whether one of these codecs gives the bytes that are stored, as they are."""
    names = [each["name"] for each in base.codecs if each["name"] not in ("bytes", "transpose")]
    return len(names) == 1 and names[0] in codecs and any(map(base.values.get, base.objects))


@kind("counts and lengths of elements", 30, "refused where a count is wrong")
def variable(chance: Random, tools: Tools) -> Hostile:
    """The count of elements, or the length of one."""
    bases = tools.bases_where("variable", lambda base: stored_as(base, VARIABLE))
    base, key, data = pick(chance, tools, bases)
    places = list(lengths(data))
    if not places or chance.random() < 0.25:
        count = int.from_bytes(data[:4], "little")
        other = chance.choice([count + 1, count - 1, *COUNTS]) % (1 << 32)
        other = other if other != count else count + 7
        out = struct.pack("<I", other) + data[4:]
        return damaged(base, key, out, f"{other} elements instead of {count}", "refuse")
    at = chance.choice(places)
    length = int.from_bytes(data[at : at + 4], "little")
    other = chance.choice([length + 1, length - 1, length + 4, *COUNTS]) % (1 << 32)
    out = data[:at] + struct.pack("<I", other) + data[at + 4 :]
    return damaged(base, key, out, f"length {other} instead of {length} at {at}", "any")


def lengths(data: bytes) -> list[int]:
    """Where the lengths of elements stand."""
    found, at = [], 4
    while at + 4 <= len(data):
        found.append(at)
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return found


@kind("text that is none", 15, "shape, type, other chunks")
def not_text(chance: Random, tools: Tools) -> Hostile:
    """Bytes that are no UTF-8, in an element."""
    texts = {"vlen-utf8", "numcodecs.vlen-utf8"}
    base, key, data = pick(chance, tools, tools.bases_where("texts", lambda b: stored_as(b, texts)))
    places = [at for at in lengths(data) if any(data[at : at + 4])]
    if not places:
        return damaged(base, key, data[:-1], "one byte less", "told")
    at = chance.choice(places)
    length = int.from_bytes(data[at : at + 4], "little")
    bad = chance.choice(
        [b"\xff", b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\0"]
    )
    out = data[: at + 4] + (bad * length)[:length] + data[at + 4 + length :]
    return damaged(base, key, out, f"{bad!r} from {at + 4} on", "any")


def odd_values(chance: Random) -> Any:
    """A value that JSON and MessagePack can say."""
    return chance.choice(
        [
            None, True, 0, -1, 2**63, -(2**63), 0.5, "", "|O", "<f8", "<M8[s]", "|V0", "|S0", "O",
            "i4,i4", "<U999999999", "|V2147483647", "x" * 300, [], [0], [[]], [1, 2], [2**62, 4],
            [-1], [0, 2**40], ["1"], [None], {}, {"a": 1}, {"__class__": "os.system"},
        ]
    )  # fmt: skip


def altered(chance: Random, value: Any, depth: int = 0) -> Any:
    """A value in which something is replaced, removed, added or nested."""
    if isinstance(value, list) and value and (depth == 0 or chance.random() < 0.6):
        at = chance.randrange(len(value))
        if chance.random() < 0.4:
            at = len(value) - 1 - min(at, 1)  # the dtype and the shape stand last
        how = chance.randrange(5)
        if how == 0:
            return value[:at] + value[at + 1 :]
        if how == 1:
            return [*value[:at], odd_values(chance), *value[at:]]
        if how == 2:
            return [*value[:at], [value[at]], *value[at + 1 :]]
        return [*value[:at], altered(chance, value[at], depth + 1), *value[at + 1 :]]
    return odd_values(chance)


@kind("JSON of objects", 15, "shape, type, other chunks; no code is run")
def json_objects(chance: Random, tools: Tools) -> Hostile:
    bases = tools.bases_where("json2", lambda base: stored_as(base, {"numcodecs.json2"}))
    base, key, data = pick(chance, tools, bases)
    how = chance.randrange(8)
    if how == 0:
        depth = chance.choice([10, 1000, 100_000])
        out, what = b"[" * depth + b"]" * depth, f"{depth} lists in each other"
    elif how == 1:
        out, what = b"[" + b"9" * 5000 + b', "|O", [1]]', "a number of 5000 digits"
    elif how == 2:
        at = chance.randrange(len(data))
        noise = chance.choice([b"\xff", b"\0", b",", b"}", b"NaN", b'"', b"\\ud800"])
        out, what = data[:at] + noise + data[at:], f"{noise!r} at {at}"
    elif how == 3:
        what = "UTF-16, UTF-32 or with a mark in front"
        coded = [data.decode().encode(name) for name in ("utf-16", "utf-32", "utf-8-sig")]
        out = chance.choice(coded)
    else:
        out = json.dumps(altered(chance, json.loads(data))).encode()
        what = "altered"
    return damaged(base, key, out, f"JSON: {what}", "any")


@kind("MessagePack of objects", 15, "shape, type, other chunks; no code is run")
def msgpack_objects(chance: Random, tools: Tools) -> Hostile:
    import msgpack  # noqa: PLC0415  as the codec does

    bases = tools.bases_where("msgpack2", lambda base: stored_as(base, {"numcodecs.msgpack2"}))
    base, key, data = pick(chance, tools, bases)
    how = chance.randrange(6)
    if how == 0:
        heads = [
            b"\xdd\xff\xff\xff\xff",
            b"\xdf\xff\xff\xff\xff",
            b"\xdb\xff\xff\xff\xff",
            b"\xc6\x7f\xff\xff\xff",
        ]
        out, what = chance.choice(heads) + data[1:], "a count of billions"
    elif how == 1:
        depth = chance.choice([10, 600, 5000, 100_000])
        out, what = b"\x91" * depth + b"\xc0", f"{depth} lists in each other"
    elif how == 2:
        kinds = [
            b"\xd4\x01a",
            b"\xd6\xff\0\0\0\0",
            b"\xd7\xff" + b"\xff" * 8,
            b"\xc7\x0c\xff" + b"\xff" * 12,
        ]
        out = b"\x93" + chance.choice(kinds) + b"\xa2|O\x91\x01"
        what = "an extension or a time"
    elif how == 3:
        out, what = b"\x93\x82\x01\x02\x93\x01\x02\x03\x01\xa2|O\x91\x01", "a map with odd keys"
    elif how == 4:
        out = msgpack.packb(["\udc80", "|O", [1]], unicode_errors="surrogatepass")
        what = "text that is none"
    else:
        items = msgpack.unpackb(data, strict_map_key=False)
        out = msgpack.packb(altered(chance, items), default=str) if _fits(items) else data[:-1]
        what = "altered"
    return damaged(base, key, out, f"MessagePack: {what}", "any")


def _fits(items: Any) -> bool:
    return isinstance(items, list)


def trip() -> None:
    """What must never run."""
    TRIPPED.append(1)


class _Trips:
    """What calls `trip` when it is unpickled."""

    def __reduce__(self) -> Any:
        return (trip, ())


def pickles() -> list[bytes]:
    """What unpickling would run: each protocol, a global alone, and NumPy's own file of objects."""
    found = [pickle.dumps(_Trips(), protocol) for protocol in range(6)]
    call = f"c{__name__}\ntrip\n(tR.".encode()
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    npy = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header
    return [*found, call, npy + found[-1]]


@kind("pickles", 12, "refused; no code is run")
def pickled(chance: Random, tools: Tools) -> Hostile:
    """Chunks that are pickles, of arrays whose metadata say so, or hint at objects."""
    data = chance.choice(tools.once("pickles", pickles))
    filters: list[dict[str, Any]] = [
        {"id": "pickle", "protocol": 5}, {"id": "json2"}, {"id": "msgpack2"}, {"id": "vlen-utf8"},
        {"id": "vlen-array", "dtype": "|O"}, {"id": "vlen-array", "dtype": "<M8"},
        {"id": "categorize", "labels": ["a"], "dtype": "|O", "astype": "|O"},
        {"id": "astype", "encode_dtype": "|O", "decode_dtype": "|O"},
        {"id": "delta", "dtype": "|O"},
        {"id": "fixedscaleoffset", "dtype": "|O", "scale": 1, "offset": 0},
        {"id": "msgpack"}, {"id": "json"}, {"id": "n5_wrapper"}, {"id": "os.system"},
    ]  # fmt: skip
    name = chance.choice(["|O", "|O", "O", "<O8", "object", "|V8"])
    chosen = [chance.choice(filters)] + ([chance.choice(filters)] if chance.random() < 0.3 else [])
    if chance.random() < 0.15:
        chosen = []
    fill: Any = chance.choice([None, 0, "", "gASVDQAAAAAAAACMCGJ1aWx0aW5zlIwEZXZhbJSTlC4="])
    document = {
        "zarr_format": 2, "shape": [2], "chunks": [2], "dtype": name, "order": "C",
        "fill_value": fill, "filters": chosen or None,
        "compressor": chance.choice([None, None, {"id": "pickle"}]),
    }  # fmt: skip
    if chance.random() < 0.3:
        v3 = {"name": chance.choice(["numcodecs.pickle", "pickle", "bytes", "numcodecs.json2"])}
        document = {
            "zarr_format": 3, "node_type": "array", "shape": [2], "fill_value": fill,
            "data_type": chance.choice(["object", "|O", "string", "bytes", "python.pickle"]),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
            "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}},
            "codecs": [v3],
        }  # fmt: skip
        chosen = [v3]
    key = ".zarray" if document["zarr_format"] == 2 else "zarr.json"
    store: dict[str, Any] = {key: json.dumps(document).encode(), "0": data}
    return Hostile(f"{len(data)} bytes of pickle for {name} by {chosen}", store, path="")


@kind("pickles for other codecs", 5, "shape, type, other chunks; no code is run")
def pickle_payload(chance: Random, tools: Tools) -> Hostile:
    """In the place of a chunk of text, bytes or objects."""
    data = chance.choice(tools.once("pickles", pickles))
    bases = tools.bases_where(
        "of objects",
        lambda base: (
            bool(base.names & (VARIABLE | {"numcodecs.json2", "numcodecs.msgpack2"}))
            and any(map(base.values.get, base.objects))
        ),
    )
    base, key, _ = pick(chance, tools, bases)
    promise: Promise = "any"
    store = changed(base, {key: data})
    return Hostile(f"{base.name}, {key}: a pickle", store, base, frozenset([key]), promise=promise)
