"""Inputs from inputs: bytes changed in places, and JSON documents changed as documents."""

from __future__ import annotations

import json
import random
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Change = Callable[[bytearray], None]

EDGES = (0, 1, 2, 7, 8, 16, 31, 32, 64, 100, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 65535)
FAR_EDGES = (2**16, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
FORMS = tuple(order + letter for order in "<>" for letter in "BHIQ")
MOST_CHANGES = 5

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 64, 70, 2**31, 2**40, 2**53, 2**62, 2**63, 2**64),
    *(10**40, 0.0, -0.0, 0.5, 1.0, 1e308, float("nan"), float("inf"), -float("inf")),
    *("", "a", "0", "1", "-1", "NaN", "Infinity", "-Infinity", "NaT", "AAAA", "AA==", "="),
    *("0x7fc00000", "0x0", "0xzz", "\ud800", "\0", "..", "/", "\\", "\u00e9", "x" * 1000),
    *("bool", "int2", "int32", "uint64", "float16", "bfloat16", "float8_e8m0fnu", "complex64"),
    *("complex_float8_e4m3", "string", "bytes", "struct", "r8", "r16", "r4294967296", "|O"),
    *("<f8", ">i2", "|b1", "<f16", "|S9", "|S99999999999", "<U0", "<U3", "<M8[0s]", "|V2"),
    *("default", "v2", "regular", "rectilinear", "inline", "little", "big", "start", "end"),
    *([], {}, [[]], [{}], {"": {}}, [1] * 70, [0, 0], [-1, -1], [1, 1], [[2**62, 2**62]]),
    *([[1, 2], [3, 4]], {"name": "x"}, {"name": "x", "must_understand": False}),
)
"""Values that are put into documents."""


class Mutator:
    """Makes inputs; the same seed makes the same."""

    def __init__(self, seed: str, tokens: Sequence[bytes], longest: int) -> None:
        """Make nothing yet.

        Args:
            seed: of the random numbers.
            tokens: bytes that mean something.
            longest: bytes of the longest input.
        """
        self._rng = random.Random(seed)  # noqa: S311
        self._tokens = tokens
        self._longest = longest
        self._changes: tuple[Change, ...] = (
            *(self._flip_bit, self._set_byte, self._set_number, self._set_number),
            *(self._add_to_number, self._remove, self._repeat, self._insert, self._overwrite),
            *(self._cut_off, self._shuffle),
        )

    def pick(self, given: Sequence[bytes], found: Sequence[bytes]) -> bytes:
        """One of the inputs: half of the time one that was given, else more often a late one."""
        if not found or self._rng.random() < 0.5:
            return self._rng.choice(given or [b""])
        return found[-1 - int(self._rng.random() ** 2 * len(found))]

    def mutate(self, data: bytes, other: bytes) -> bytes:
        """Change some bytes; now and then bytes of another input come in."""
        rng = self._rng
        made = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, MOST_CHANGES))):
            if other and rng.random() < 0.1:
                start = rng.randrange(len(other))
                piece = other[start : start + rng.randint(1, len(other))]
                at = rng.randint(0, len(made))
                made[at : at + rng.choice((0, len(piece)))] = piece
            elif self._tokens and rng.random() < 0.2:
                token = rng.choice(self._tokens)
                at = rng.randint(0, len(made))
                made[at : at + rng.choice((0, len(token)))] = token
            else:
                rng.choice(self._changes)(made)
            del made[self._longest :]
        return bytes(made)

    def mutate_json(self, data: bytes, other: bytes) -> bytes:
        """Change a document as a document; bytes that are none are changed as bytes."""
        if self._rng.random() < 0.2:
            return self.mutate(data, other)
        try:
            document, donor = json.loads(data), json.loads(other)
            for _ in range(self._rng.choice((1, 1, 2, 3))):
                document = self._change_document(document, donor)
            made = json.dumps(document).encode()
        except (ValueError, RecursionError):
            return self.mutate(data, other)
        return made if len(made) <= self._longest else data

    # Bytes

    def _place(self, made: bytearray, nbytes: int = 1) -> int:
        return self._rng.randint(0, max(0, len(made) - nbytes))

    def _flip_bit(self, made: bytearray) -> None:
        if made:
            made[self._place(made)] ^= 1 << self._rng.randrange(8)

    def _set_byte(self, made: bytearray) -> None:
        if made:
            made[self._place(made)] = self._rng.randrange(256)

    def _set_number(self, made: bytearray) -> None:
        form = self._rng.choice(FORMS)
        nbytes = struct.calcsize(form)
        value = self._rng.choice((*EDGES, *FAR_EDGES, len(made), self._rng.getrandbits(64)))
        value = (value + self._rng.choice((0, 0, -1, 1))) % 256**nbytes
        at = self._place(made, nbytes)
        made[at : at + nbytes] = struct.pack(form, value)

    def _add_to_number(self, made: bytearray) -> None:
        form = self._rng.choice(FORMS)
        nbytes = struct.calcsize(form)
        if len(made) >= nbytes:
            at = self._place(made, nbytes)
            (value,) = struct.unpack_from(form, made, at)
            value = (value + self._rng.randint(-35, 35)) % 256**nbytes
            made[at : at + nbytes] = struct.pack(form, value)

    def _remove(self, made: bytearray) -> None:
        at = self._place(made)
        del made[at : at + self._length(made)]

    def _repeat(self, made: bytearray) -> None:
        at = self._place(made)
        made[at:at] = made[at : at + self._length(made)] * self._rng.choice((1, 1, 2, 10, 1_000))

    def _insert(self, made: bytearray) -> None:
        at = self._place(made)
        made[at:at] = self._noise(made)

    def _overwrite(self, made: bytearray) -> None:
        noise = self._noise(made)
        at = self._place(made, len(noise))
        made[at : at + len(noise)] = noise

    def _cut_off(self, made: bytearray) -> None:
        del made[self._place(made) :]

    def _shuffle(self, made: bytearray) -> None:
        """Swap two pieces that lie beside each other."""
        at, nbytes = self._place(made), self._length(made)
        first, second = made[at : at + nbytes], made[at + nbytes : at + 2 * nbytes]
        made[at : at + 2 * nbytes] = second + first

    def _length(self, made: bytearray) -> int:
        return self._rng.choice((1, 2, 4, 8, 16, self._rng.randint(1, max(1, len(made)))))

    def _noise(self, made: bytearray) -> bytes:
        nbytes = min(self._length(made), 256)
        if self._rng.random() < 0.5:
            return bytes([self._rng.choice((0, 0, 0xFF, 0x20, self._rng.randrange(256)))]) * nbytes
        return self._rng.randbytes(nbytes)

    # Documents

    def _change_document(self, document: Any, donor: Any) -> Any:
        """The document with one place changed, in place where it can be."""
        rng = self._rng
        holder, name = rng.choice([(None, None), *places(document)] if document else [(None, None)])
        if holder is None:
            return rng.choice((self._value(donor), [document], document, document))
        match rng.randrange(8):
            case 0 | 1 | 2:
                holder[name] = self._value(donor)
            case 3:
                del holder[name]
            case 4 | 5:
                holder[name] = self._nearby(holder[name])
            case 6 if isinstance(holder, dict):
                text = rng.choice(("name", "configuration", "", "shape", "x", str(name) + "x"))
                holder[text] = self._value(donor)
            case 6:
                holder.insert(name, self._value(donor))
            case _ if isinstance(holder, dict):
                taken = rng.choice(list(holder))
                holder[taken] = holder.pop(name)
            case _:
                holder.extend(holder[name:] * rng.choice((1, 2, 30)))
        return document

    def _value(self, donor: Any) -> Any:
        """An odd value, or one that stands somewhere in another document."""
        if donor and self._rng.random() < 0.4:
            holder, name = self._rng.choice(places(donor) or [([donor], 0)])
            return json.loads(json.dumps(holder[name]))
        return json.loads(json.dumps(self._rng.choice(ODD)))

    def _nearby(self, value: Any) -> Any:
        """A value like the one there."""
        rng = self._rng
        match value:
            case bool():
                return not value
            case int():
                return rng.choice((value + 1, value - 1, -value, 2 * value, value * 10**9))
            case float():
                return rng.choice((-value, value * 1e300, str(value), value + 0.5))
            case str():
                letters = list(value or "a")
                rng.shuffle(letters)
                return rng.choice((value[1:], value * 2, value.upper(), "".join(letters), [value]))
            case _:
                return [value]


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every place of a document: the object or array that holds it, and its name or number."""
    found: list[tuple[Any, Any]] = []
    waiting = [document] if isinstance(document, (dict, list)) else []
    while waiting:
        holder = waiting.pop()
        names = list(holder) if isinstance(holder, dict) else range(len(holder))
        for name in names:
            found.append((holder, name))
            if isinstance(holder[name], (dict, list)):
                waiting.append(holder[name])
    return found
