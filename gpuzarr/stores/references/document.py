"""kerchunk's reference documents: for each key its bytes, or where they lie.

    version 0    {"a/.zarray": "{...}", "a/0.0": ["s3://bucket/file.nc", 4096, 812], ...}
    version 1    {"version": 1, "templates": {...}, "gen": [...], "refs": {as version 0}}

A value is a text (which may begin with "base64:"), a JSON object, `[url]` for a whole file, or
`[url, offset, length]` for a part of one. A document may have millions of them, of which a read
needs few; so each is looked at when it is asked for, and a damaged one is told of its own key.

Source: kerchunk's "References specification".
"""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_left
from collections import ChainMap
from collections.abc import Mapping
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from gpuzarr.errors import MetadataError, StoreError, UnsupportedError
from gpuzarr.metadata.document import shorten
from gpuzarr.stores.references.templates import (
    LARGEST,
    Steps,
    Template,
    TemplateError,
    Templates,
)
from gpuzarr.stores.store import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DOCUMENT_NBYTES = 1 << 29
"""The longest JSON document that is read: larger sets of references belong into Parquet."""
MOST_GENERATED = 1 << 18
"""References that the "gen" entries of a document may make, in sum."""
MOST_GENERATED_LENGTH = 1 << 24
"""Characters that their keys may have, in sum."""
MOST_GENERATING_STEPS = 1 << 20
"""Steps that their keys may take to render, in sum."""
MOST_DIMENSIONS = 64
"""Of a "gen" entry: as many as an array may have."""
MOST_EXPANDED = 1 << 14
"""Texts that are remembered with their templates replaced; beyond that all are forgotten."""

_BASE64 = b"base64:"
_AFTER_SLASH = chr(ord("/") + 1)
_NO_NAMES = frozenset({"", ".", ".."})


class Pointer(NamedTuple):
    """Where the bytes of a key lie."""

    url: str
    """A URL, or a path, which may be relative to where the references are stored."""
    offset: int
    """First byte."""
    nbytes: int
    """How many bytes, or WHOLE: the file is the object."""


class References(Protocol):
    """What a store of references is made of."""

    def find(self, key: str) -> bytes | Pointer | None:
        """The bytes of a key, or where they lie; None: there is no such key.

        Raises:
            StoreError: the reference is damaged.
        """
        ...

    def children(self, prefix: str) -> Iterator[tuple[str, bool]]:
        """As `Store.list`."""
        ...

    def some_urls(self) -> Iterator[str]:
        """URLs that say whether targets are local files; not all of them where that is slow."""
        ...


class DocumentReferences:
    """The references of a JSON document; see `References`."""

    def __init__(
        self,
        refs: Mapping[str, Any],
        templates: Templates | None = None,
        generated: Mapping[str, tuple[Generator, tuple[int, ...]]] | None = None,
    ) -> None:
        """Take what a document holds; `parse_document` does.

        Args:
            refs: values by key, as the document has them.
            templates: what URLs are expanded with.
            generated: for keys of "gen" entries the entry, and the values of its dimensions.
        """
        self._refs = refs
        self._templates = templates or Templates({})
        self._generated = generated or {}
        self._expanded: dict[str, str] = {}
        self._sorted: tuple[str, ...] | None = None

    def find(self, key: str) -> bytes | Pointer | None:
        """See `References.find`."""
        try:
            if key in self._generated:
                generator, values = self._generated[key]
                return generator.pointer(values, self._templates)
            if key not in self._refs:
                # kerchunk 0.2 writes the only chunk of some arrays without dimensions as "a/".
                if not key.endswith("/0") or key[:-1] not in self._refs:
                    return None
                key = key[:-1]
            found = interpret(self._refs[key], key)
            if self._templates and isinstance(found, Pointer) and "{{" in found.url:
                return found._replace(url=self._expand(found.url))
        except TemplateError as error:
            raise StoreError(f"the reference of this key is damaged: {error}", key=key) from error
        return found

    def children(self, prefix: str) -> Iterator[tuple[str, bool]]:
        """See `References.children`."""
        keys = self._sorted
        if keys is None:  # two threads may both sort; they get the same
            keys = self._sorted = tuple(sorted({*self._refs, *self._generated}))
        yield from children_of(keys, prefix)
        if f"{prefix}/" in self._refs and f"{prefix}/0" not in self._refs:
            yield "0", False

    def some_urls(self) -> Iterator[str]:
        """See `References.some_urls`; all there are, as the document has them."""
        yield from map(str, self._templates.values.values())
        yield from (template.text for template in self._templates.functions.values())
        yield from {generator.url.text for generator, _ in self._generated.values()}
        for value in self._refs.values():
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
                yield value[0]

    def _expand(self, url: str) -> str:
        expanded = self._expanded.get(url)
        if expanded is None:
            if len(self._expanded) >= MOST_EXPANDED:
                self._expanded = {}
            expanded = self._expanded[url] = self._templates.expand(url)
        return expanded


class Generator:
    """One entry of "gen": references that follow a rule."""

    def __init__(self, entry: object, where: str) -> None:
        """Read an entry.

        Raises:
            MetadataError: a member is missing or wrong.
            TemplateError: a text that is not understood.
        """
        if not isinstance(entry, dict):
            raise _wrong(where, entry, "an object")
        self._key = Template(_text(entry, "key", where))
        self.url = Template(_text(entry, "url", where))
        self._range: tuple[Template, Template] | None = None
        if "offset" in entry or "length" in entry:
            self._range = (
                Template(_text(entry, "offset", where)),
                Template(_text(entry, "length", where)),
            )
        dimensions = entry.get("dimensions")
        if not isinstance(dimensions, dict) or not dimensions:
            raise _wrong(f"{where}.dimensions", dimensions, "an object with members")
        if len(dimensions) > MOST_DIMENSIONS:
            raise TemplateError(f"{where} has more than {MOST_DIMENSIONS} dimensions")
        self._names = tuple(dimensions)
        self._sizes = tuple(
            _dimension(value, f"{where}.dimensions.{name}") for name, value in dimensions.items()
        )

    @property
    def count(self) -> int:
        """How many references it makes."""
        return prod(map(len, self._sizes))

    def values(self) -> Iterator[tuple[int, ...]]:
        """The values of the dimensions, for each reference."""
        return product(*self._sizes) if self.count else iter(())

    def key(self, values: tuple[int, ...], templates: Templates, steps: Steps) -> str:
        """The key of one reference."""
        return self._render(self._key, values, templates, steps)

    def pointer(self, values: tuple[int, ...], templates: Templates) -> Pointer:
        """Where one reference points to."""
        url = self._render(self.url, values, templates)
        if self._range is None:
            return Pointer(url, 0, WHOLE)
        offset, length = (_digits(self._render(each, values, templates)) for each in self._range)
        return Pointer(url, offset, length)

    def _render(
        self,
        template: Template,
        values: tuple[int, ...],
        templates: Templates,
        steps: Steps | None = None,
    ) -> str:
        names: dict[str, int | str] = dict(zip(self._names, values, strict=True))
        return template.render(ChainMap(names, templates.values), templates.functions, steps)


def parse_document(
    document: bytes | bytearray | memoryview | Mapping[str, Any],
) -> DocumentReferences:
    """Read a reference document of version 0 or 1, as JSON text or as the objects of one.

    Raises:
        MetadataError: not JSON, too long, or a member is wrong.
        UnsupportedError: another version, or more generated references than are made.
    """
    members = document if isinstance(document, Mapping) else parse_json(document)
    if "version" not in members:
        return DocumentReferences(members)
    version = members["version"]
    if type(version) is not int or version != 1:
        raise UnsupportedError(
            f"the reference document is of version {shorten(version)}; 0 and 1 are read"
        )
    refs = _member(members, "refs", Mapping, "an object", {})
    bodies = _member(members, "templates", Mapping, "an object", {})
    for name, body in bodies.items():
        if not isinstance(body, str):
            raise _wrong(f"templates[{shorten(name)}]", body, "a string")
    try:
        templates = Templates(bodies)
        generated = _generate(_member(members, "gen", list, "an array", []), templates)
    except TemplateError as error:
        raise MetadataError(f"the reference document's templates: {error}") from error
    return DocumentReferences(refs, templates, generated)


def interpret(value: object, key: str) -> bytes | Pointer:
    """What the value of a key says.

    Raises:
        StoreError: it is none of the forms that the specification has.
    """
    if isinstance(value, str):
        try:
            return _inline(value.encode(), key)
        except UnicodeEncodeError as error:
            raise _damaged(value, key, "no text: it has half a surrogate pair") from error
    if isinstance(value, (bytes, bytearray, memoryview)):  # scanners hand these on in memory
        return _inline(bytes(value), key)
    if isinstance(value, Mapping):
        try:
            return json.dumps(value).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise _damaged(value, key, "not a JSON object") from error
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], str):
        if len(value) == 1:
            return Pointer(value[0], 0, WHOLE)
        if len(value) == 3 and all(_is_place(number) for number in value[1:]):  # noqa: PLR2004
            return Pointer(value[0], value[1], value[2])
    raise _damaged(value, key, "neither text nor [url] nor [url, offset, length]")


def children_of(keys: Sequence[str], prefix: str) -> Iterator[tuple[str, bool]]:
    """As `Store.list` has them, from keys that are sorted; those below a child are leapt over."""
    start = prefix + "/" if prefix else ""
    place = bisect_left(keys, start)
    while place < len(keys) and keys[place].startswith(start):
        name, slash, _ = keys[place][len(start) :].partition("/")
        if name not in _NO_NAMES:
            yield name, bool(slash)
        place = bisect_left(keys, start + name + _AFTER_SLASH, place) if slash else place + 1


def _inline(data: bytes, key: str) -> bytes:
    if not data.startswith(_BASE64):
        return data
    try:
        return base64.b64decode(data[len(_BASE64) :], validate=True)
    except binascii.Error as error:
        raise _damaged(data, key, f"not base64 ({error})") from error


def _generate(
    entries: Sequence[object], templates: Templates
) -> dict[str, tuple[Generator, tuple[int, ...]]]:
    generated: dict[str, tuple[Generator, tuple[int, ...]]] = {}
    count = length = 0
    steps = Steps(MOST_GENERATING_STEPS)
    for number, entry in enumerate(entries):
        generator = Generator(entry, f"gen[{number}]")
        count += generator.count
        if count > MOST_GENERATED:
            raise UnsupportedError(
                f"the reference document generates too many references; at most {MOST_GENERATED}"
                " are made: write them out, or as Parquet"
            )
        for values in generator.values():
            key = generator.key(values, templates, steps)
            length += len(key)
            if length > MOST_GENERATED_LENGTH:
                raise UnsupportedError(
                    "the keys of the generated references are too long; at most"
                    f" {MOST_GENERATED_LENGTH} characters are made in sum"
                )
            generated[key] = (generator, values)
    return generated


def parse_json(data: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The members of a reference document.

    Raises:
        MetadataError: not a JSON object, or too long.
    """
    view = memoryview(data)
    if view.nbytes > DOCUMENT_NBYTES:
        raise MetadataError(
            f"the reference document has {view.nbytes} bytes; at most {DOCUMENT_NBYTES} are read:"
            " write the references as Parquet"
        )
    try:
        document = json.loads(str(view, "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise MetadataError(f"the reference document is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _wrong("the reference document", document, "a JSON object")
    return document


def _dimension(value: object, where: str) -> Sequence[int]:
    """The values of a dimension of generated references."""
    if isinstance(value, list):
        if not all(type(each) is int and abs(each) <= LARGEST for each in value):
            raise _wrong(where, value, "a list of integers")
        return value
    if not isinstance(value, dict):
        raise _wrong(where, value, "an object or a list")
    bounds = [value.get("start", 0), value.get("stop"), value.get("step", 1)]
    if not all(type(each) is int and abs(each) <= LARGEST for each in bounds) or not bounds[2]:
        raise _wrong(where, value, '{"start": ..., "stop": ..., "step": ...}')
    span = range(*bounds)
    # len() of longer ranges overflows.
    return span if not span[MOST_GENERATED:] else range(MOST_GENERATED + 1)


def _digits(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= LARGEST):  # noqa: PLR2004  of 2**63
        raise TemplateError(f"{text[:60]!r} is no offset or length")
    return int(text)


def _is_place(number: object) -> bool:
    return type(number) is int and 0 <= number <= LARGEST


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if type(value) is int:
        return str(_shorter(value))
    if not isinstance(value, str):
        raise _wrong(f"{where}.{name}", value, "a string")
    return value


def _shorter(number: int) -> int:
    if abs(number) > LARGEST:
        raise TemplateError("an integer is larger than 64 bits hold")
    return number


def _member(members: Mapping[str, Any], name: str, kind: type, right: str, default: Any) -> Any:
    value = members.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise _wrong(name, value, right)
    return value


def _wrong(where: str, found: object, right: str) -> MetadataError:
    return MetadataError(f"{where} is {shorten(found)}; it must be {right}")


def _damaged(value: object, key: str, problem: str) -> StoreError:
    return StoreError(
        f"the reference of this key is damaged: {shorten(value)} is {problem}", key=key
    )
