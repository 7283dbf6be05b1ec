"""Stored chunks and shards whose bytes were changed; the metadata are whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hostile.inputs import Hostile, Promise, Tools, changed, kind

if TYPE_CHECKING:
    from random import Random

    from tests.hostile.bases import Base

EXTREMES: tuple[int, ...] = (
    *(0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 1 << 20, 1 << 27),
    *((1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62, (1 << 63) - 1, 1 << 63),
    *((1 << 64) - 2, (1 << 64) - 1),
)
HEAD = 48
"""Bytes at the beginning among which headers are looked for."""


def pick(chance: Random, tools: Tools, bases: list[Base] | None = None) -> tuple[Base, str, bytes]:
    """A base, the key of one of its stored chunks or shards, and the bytes there."""
    if bases is None:
        bases = tools.bases_where(
            "with bytes", lambda base: any(map(base.values.get, base.objects))
        )
    base = chance.choice(bases)
    key = chance.choice([key for key in base.objects if base.values[key]])
    return base, key, base.values[key]


def damaged(base: Base, key: str, data: bytes, what: str, promise: Promise) -> Hostile:
    """One stored object replaced."""
    text = f"{base.name}, {key}: {what}"
    return Hostile(text, changed(base, {key: data}), base, frozenset([key]), promise=promise)


@kind("truncated", 60, "never other values")
def truncated(chance: Random, tools: Tools) -> Hostile:
    base, key, data = pick(chance, tools)
    size = chance.randrange(len(data))
    # Without a checksum the index of a shard, cut, may be other numbers; with one it may be that of
    # a shard inside, which has as many entries.
    tells = not base.nested and (base.index is None or base.index.checked)
    promise: Promise = "told" if tells else "any"
    return damaged(base, key, data[:size], f"cut to {size} of {len(data)} bytes", promise)


@kind("followed by more bytes", 25, "never other values")
def followed(chance: Random, tools: Tools) -> Hostile:
    base, key, data = pick(chance, tools)
    count = chance.choice([1, 2, 3, 4, 7, 8, 16, 100, 5000])
    more, what = chance.choice(
        [
            (bytes(count), "zeros"),
            (b"\xff" * count, "ones"),
            (chance.randbytes(count), "random"),
            (data, "itself"),
            (data[:count], "its beginning"),
        ]
    )
    promise: Promise = "told" if base.index is None or base.index.checked else "any"
    return damaged(base, key, data + more, f"{len(more)} bytes behind it: {what}", promise)


def flip(chance: Random, data: bytes) -> tuple[bytes, str]:
    """One bit, or a few, or a few bytes."""
    out = bytearray(data)
    places = [chance.randrange(len(data)) for _ in range(chance.choice([1, 1, 1, 2, 3, 8]))]
    masks = [
        1 << chance.randrange(8) if chance.random() < 0.7 else chance.randrange(1, 256)
        for _ in places
    ]
    for place, mask in zip(places, masks, strict=True):
        out[place] ^= mask
    if bytes(out) == data:
        out[places[0]] ^= 1
    return bytes(out), ", ".join(f"{p}^{m:#04x}" for p, m in zip(places, masks, strict=True))


@kind("flipped bits, with a checksum", 70, "never other values")
def flipped_checked(chance: Random, tools: Tools) -> Hostile:
    base, key, data = pick(
        chance,
        tools,
        tools.bases_where("checked", lambda b: b.checked and any(map(b.values.get, b.objects))),
    )
    out, what = flip(chance, data)
    return damaged(base, key, out, f"flipped {what}", "told")


@kind("flipped bits, nothing to tell", 50, "shape, type, other chunks")
def flipped_unchecked(chance: Random, tools: Tools) -> Hostile:
    base, key, data = pick(
        chance,
        tools,
        tools.bases_where(
            "unchecked", lambda b: not b.checked and any(map(b.values.get, b.objects))
        ),
    )
    out, what = flip(chance, data)
    return damaged(base, key, out, f"flipped {what}", "any")


@kind("numbers replaced", 60, "never other values where there is a checksum")
def lying_numbers(chance: Random, tools: Tools) -> Hostile:
    """A field of 1 to 8 bytes near an end becomes an extreme: sizes, counts, offsets, flags."""
    base, key, data = pick(chance, tools)
    out = bytearray(data)
    said = []
    for _ in range(chance.choice([1, 1, 2])):
        width = chance.choice([1, 2, 4, 4, 8])
        limit = min(HEAD, len(data))
        at = chance.randrange(limit)
        if chance.random() < 0.3:
            at = len(data) - limit + at
        if chance.random() < 0.5:
            at -= at % 4
        number = chance.choice(EXTREMES) & ((1 << 8 * width) - 1)
        if chance.random() < 0.3:
            old = int.from_bytes(data[at : at + width], "little")
            number = (old + chance.choice([-2, -1, 1, 2, 256, -256])) % (1 << 8 * width)
        order = "little" if chance.random() < 0.8 else "big"
        field = number.to_bytes(width, "little" if order == "little" else "big")
        out[at : at + width] = field[: len(data) - at]
        said.append(f"{number:#x} ({width} bytes, {order}) at {at}")
    promise: Promise = "told" if base.checked else "any"
    return damaged(base, key, bytes(out), "; ".join(said), promise)


@kind("parts moved", 30, "never other values where there is a checksum")
def moved(chance: Random, tools: Tools) -> Hostile:
    """A part removed, repeated, zeroed, exchanged or filled in."""
    base, key, data = pick(chance, tools)
    first, last = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    part = data[first:last] or data[:1]
    out, what = chance.choice(
        [
            (data[:first] + data[last:], "removed"),
            (data[:last] + part + data[last:], "repeated"),
            (data[:first] + bytes(last - first) + data[last:], "zeroed"),
            (data[last:] + data[first:last] + data[:first], "ends exchanged"),
            (data[:first] + chance.randbytes(last - first) + data[last:], "random"),
            (data[:first] + data[first:last][::-1] + data[last:], "turned round"),
        ]
    )
    promise: Promise = "told" if base.checked else "any"
    return damaged(base, key, out, f"{first} to {last} {what}", promise)


@kind("other bytes", 30, "shape, type, other chunks")
def other_bytes(chance: Random, tools: Tools) -> Hostile:
    """What is no chunk of this array at all, or another of its chunks."""
    base, key, data = pick(chance, tools)
    how = chance.randrange(6)
    if how == 0:
        other, there, out = pick(chance, tools)
        what = f"those of {other.name}, {there}"
    elif how == 1:
        there = chance.choice(sorted(base.objects))
        out, what = base.values[there], f"those of {there}"
    elif how == 2:
        out, what = b"", "none"
    elif how == 3:
        out = chance.randbytes(chance.choice([1, 4, 16, len(data), 1000]))
        what = f"{len(out)} random ones"
    elif how == 4:
        byte = chance.choice([0, 0xFF, 0x28, 0x1F])
        out, what = bytes([byte]) * len(data), f"all {byte}"
    else:
        keep = chance.randrange(1, min(20, len(data)) + 1)
        out = data[:keep] + chance.randbytes(len(data) - keep)
        what = f"random behind the first {keep}"
    return damaged(base, key, out, f"other bytes: {what}", "any")


@kind("several chunks damaged", 25, "names damaged chunks alone")
def several(chance: Random, tools: Tools) -> Hostile:
    """More than one stored object of an array, each in another way."""
    bases = tools.bases_where(
        "several", lambda base: sum(bool(base.values[key]) for key in base.objects) > 2
    )
    base, _, _ = pick(chance, tools, bases)
    keys = [key for key in base.objects if base.values[key]]
    changes: dict[str, bytes | None] = {}
    for key in chance.sample(keys, chance.randrange(2, min(6, len(keys)) + 1)):
        data = base.values[key]
        changes[key] = chance.choice(
            [
                data[: chance.randrange(len(data))],
                flip(chance, data)[0],
                data + data,
                b"",
                chance.randbytes(20),
            ]
        )
    text = f"{base.name}: {', '.join(sorted(changes))} cut, flipped, doubled, emptied or random"
    return Hostile(text, changed(base, changes), base, frozenset(changes))
