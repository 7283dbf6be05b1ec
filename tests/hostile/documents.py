"""Metadata documents: damaged text, odd values in odd places, shapes that cannot be."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from tests.hostile.inputs import Hostile, Tools, changed, kind

if TYPE_CHECKING:
    from random import Random

    from tests.hostile.bases import Base

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 64, 70, 2**31, 2**40, 2**62, 2**63, 2**64, 10**400),
    *(0.0, -0.0, 0.5, 1.0, float("nan"), float("inf"), 1e308, "", "a", "NaN", "0x7fc00000", "0xzz"),
    *("Infinity", "-Infinity", "NaT", "AAAA", "=", "\ud800", "\0", "..", "/", "é", "1", "-1"),
    *("x" * 1000, "\u202e", "\U0010ffff", "../../etc/passwd", "%2e%2e", "c:\\", "C", "F", "big"),
    *("int32", "int64", "uint8", "float64", "bool", "bfloat16", "complex_float8_e4m3", "string"),
    *("bytes", "struct", "r8", "r0", "r7", "r4294967296", "float4_e2m1fn", "numpy.datetime64"),
    *("|O", "<f16", "|S99999999999", "<U0", "<M8[0s]", "<M8", "|V2", "<i4", ">f8", "|b1", "<c16"),
    *("gzip", "zstd", "blosc", "crc32c", "sharding_indexed", "transpose", "vlen-utf8", "zfp"),
    *("regular", "rectilinear", "v2", "default", ".", "inline", "array", "group"),
    *([], {}, [[]], [{}], {"": {}}, [1] * 70, [0, 0], [-1, -1], [[2**62, 2**62]], [0], [1, 2, 3]),
    *({"name": "x"}, {"name": "x", "must_understand": False}, {"must_understand": False}),
    {"name": "raw_bytes", "configuration": {"length_bytes": 2**40}},
    {"name": "fixed_length_utf32", "configuration": {"length_bytes": 6}},
    {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 0}},
    {"name": "struct", "configuration": {"fields": []}},
    {"name": "transpose", "configuration": {"order": [0, 0]}},
    {"name": "reshape", "configuration": {"shape": [-1, -1]}},
    {"name": "zfp", "configuration": {"mode": "fixed_rate", "rate": 1e300}},
    {"name": "packbits", "configuration": {"first_bit": 5, "last_bit": 2}},
    {"name": "cast_value", "configuration": {"data_type": "int8", "scalar_map": {"decode": [[1]]}}},
    {"name": "scale_offset", "configuration": {"scale": "NaN", "offset": 1e400}},
    {"name": "bytes", "configuration": {"endian": "middle"}},
    {"id": "delta", "dtype": "|O"},
    {"id": "shuffle", "elementsize": 2**40},
    {"id": "lzma", "format": 3, "filters": [{"id": 33, "dict_size": 2**32 - 1}]},
    {"id": "fixedscaleoffset", "scale": 0, "offset": "x", "dtype": "<f4"},
    {"id": "quantize", "digits": 10**9, "dtype": "<f4"},
    {"id": "categorize", "labels": [1, None], "dtype": "<U9", "astype": "|u1"},
    {"id": "vlen-array", "dtype": "|V0"},
    {"kind": "inline", "metadata": {"a": {}}},
)
HUGE = (2**31, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64, 2**64 + 1, 10**30)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values below one."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [
        *((*path, key) for key, _ in items),
        *(found for key, child in items for found in places(child, (*path, key))),
    ]


def alter(chance: Random, document: Any, count: int) -> tuple[Any, str]:
    """A document with so many places replaced, removed or added to, and what was done."""
    document = deepcopy(document)
    said = []
    for _ in range(count):
        found = places(document)
        if not found:
            break
        path = chance.choice(found)
        container = document
        for key in path[:-1]:
            container = container[key]
        how = chance.choice(["replace", "replace", "remove", "add", "exchange"])
        where = ".".join(map(str, path))
        odd = deepcopy(chance.choice(ODD))
        if how == "replace":
            container[path[-1]] = odd
        elif how == "remove":
            del container[path[-1]]
        elif how == "exchange":
            other = document
            for key in (there := chance.choice(found))[:-1]:
                other = other[key]
            odd = there
            if isinstance(other, (dict, list)):
                container[path[-1]] = deepcopy(_at(other, there[-1]))
        elif isinstance(container, dict):
            container[chance.choice(["x", "", "name", "configuration", "must_understand"])] = odd
        else:
            container.append(odd)
        said.append(f"{how} {where} {str(odd)[:60]!r}")
    return document, "; ".join(said)


def _at(container: Any, key: Any) -> Any:
    try:
        return container[key]
    except (LookupError, TypeError):
        return None


@kind("values in metadata", 150, "an error, or the shape and type that the metadata say")
def values(chance: Random, tools: Tools) -> Hostile:
    base = chance.choice(tools.bases)
    document, what = alter(chance, base.document, chance.choice([1, 1, 1, 2, 3]))
    return with_document(base, json.dumps(document).encode(), what)


def with_document(base: Base, text: bytes, what: str) -> Hostile:
    store = changed(base, {base.document_key: text})
    return Hostile(f"{base.name}, metadata: {what}", store, base)


@kind("text of metadata", 80, "an error, or the shape and type that the metadata say")
def text(chance: Random, tools: Tools) -> Hostile:
    """Cut, with noise in it, in other encodings, keys twice, nested deep, not an object."""
    base = chance.choice(tools.bases)
    out, what = damage_text(chance, base.values[base.document_key], sorted(base.document))
    return with_document(base, out, what)


def damage_text(chance: Random, data: bytes, keys: list[str]) -> tuple[bytes, str]:
    """The text of a JSON object that has such keys, damaged, and what was done."""
    at = chance.randrange(len(data))
    how = chance.randrange(13)
    noise = chance.choice(
        [
            b"\xff",
            b"\0",
            b"\xed\xa0\x80",
            b"{",
            b"}",
            b"[",
            b",",
            b'"',
            b"\\",
            b"1e999",
            b"//",
            b"\xef\xbb\xbf",
        ]
    )
    members = data.strip()[1:-1]
    key = chance.choice(keys)
    odd = json.dumps(chance.choice(ODD)).encode()
    twice = json.dumps(key).encode() + b": " + odd
    deep = chance.choice([60, 130, 3000, 100_000])
    made: list[tuple[bytes, str]] = [
        (data[:at], f"cut at {at}"),
        (data[:at] + noise + data[at:], f"{noise!r} at {at}"),
        (data[:at] + noise + data[at + len(noise) :], f"{noise!r} over {at}"),
        (
            data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :],
            f"bit at {at}",
        ),
        (b"{" + members + b", " + twice + b"}", f"{key} twice, last {odd[:40]!r}"),
        (b"{" + twice + b", " + members + b"}", f"{key} twice, first {odd[:40]!r}"),
        (
            data.decode().encode(("utf-16", "utf-32", "utf-8-sig", "utf-7")[at % 4]),
            "another encoding",
        ),
        (b'{"a": ' * deep + b"1" + b"}" * deep, f"{deep} objects in each other"),
        (b"{" + members + b', "attributes": ' + b"[" * deep + b"]" * deep + b"}", f"{deep} lists"),
        (odd, f"not an object: {odd[:40]!r}"),
        (data + chance.choice([b"\0", b"x", data, b"\n" * 1000]), "followed by more"),
        (b"", "empty"),
        (data.replace(b"0", b"9" * 5000, 1), "a number of 5000 digits"),
    ]
    return made[how]


@kind("impossible shapes", 50, "refused, in little memory")
def shapes(chance: Random, tools: Tools) -> Hostile:  # noqa: C901  one case after another
    """Beyond 64 bits, far more elements than there is memory, 70 dimensions, empty chunks."""
    base = chance.choice(tools.bases)
    document = deepcopy(base.document)
    shape: list[Any] = document["shape"]
    v3 = document["zarr_format"] == 3
    grid = document.get("chunk_grid")
    sizes: Any = document.get("chunks")
    if v3:
        settings = grid.get("configuration", {}) if isinstance(grid, dict) else {}
        sizes = settings.get("chunk_shape", settings.get("chunk_shapes"))
    axis = chance.randrange(len(shape)) if shape else 0
    huge = chance.choice(HUGE)
    how = chance.randrange(9)
    what = f"{huge} along axis {axis}"
    if how == 0 and shape:
        shape[axis] = huge
    elif how == 1 and sizes:
        sizes[axis] = huge
    elif how == 2 and sizes:
        sizes[axis] = shape[axis] = huge
    elif how == 3:
        ndim = chance.choice([33, 64, 65, 70, 1000])
        shape[:] = [chance.choice([1, 2])] * ndim
        if isinstance(sizes, list):
            sizes[:] = [1] * ndim
        what = f"{ndim} dimensions"
    elif how == 4 and sizes:
        sizes[axis] = chance.choice([0, -1, -(2**63), 0.5, "1", None, True])
        what = f"chunks of {sizes[axis]!r}"
    elif how == 5 and shape:
        shape[axis] = chance.choice([0, -1, -(2**63), 0.5, "1", None, True])
        what = f"{shape[axis]!r} along axis {axis}"
    elif how == 6:
        shape[:] = [2**31] * max(len(shape), 2)
        what = "2^62 elements and more"
    elif how == 7:
        width = chance.choice([2**31 - 1, 2**31, 2**40, 2**62])
        name: Any = {"name": "raw_bytes", "configuration": {"length_bytes": width}}
        names = [
            name,
            f"r{8 * width}",
            {"name": "null_terminated_bytes", "configuration": {"length_bytes": width}},
        ]
        document["data_type" if v3 else "dtype"] = chance.choice(names) if v3 else f"|V{width}"
        document["fill_value"] = None if not v3 else ""
        what = f"elements of {width} bytes"
    else:
        shape.clear()
        what = "no dimensions"
    return with_document(base, json.dumps(document).encode(), what)
