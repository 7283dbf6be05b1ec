"""Undamaged arrays, to be damaged: small ones of the conformance corpus, every codec among them.

They lie packed beside this file, so that input number i of a kind is the same bytes on every
machine, whatever libraries are installed there. When a codec or a data type is added, a test says
that the archive lacks it:

    python -m tests.hostile.bases      chooses and packs them anew; needs what writes the corpus
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import gpuzarr
from gpuzarr.codecs.checksums import CHECKSUMS
from tests.arrays import encoded, v3_metadata
from tests.conformance.case import (
    Built,
    Case,
    Recipe,
    Recipes,
    assert_equal,
    parse_case,
    write_case,
)
from tests.conformance.corpus import Corpus, packed, recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ARCHIVE = Path(__file__).with_name("bases.zip")
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
MOST_NBYTES, MOST_OBJECTS = 6000, 40
"""Of a store: cases that are larger are left where they are."""
CHECKED = {"gzip", "numcodecs.gzip", "numcodecs.zlib", "numcodecs.bz2", *CHECKSUMS}
"""Codecs whose streams say whether they are whole, whatever their configuration."""

Coords = tuple[int, ...]
Document = dict[str, Any]


@dataclass(frozen=True)
class ShardIndex:
    """Where a shard's index lies, of shards that hold no shards."""

    counts: tuple[int, ...]
    """Chunks in each shard along each axis."""
    at: str
    """ "start" or "end"."""
    checked: bool
    big: bool
    """Whether its numbers are big-endian."""

    @property
    def nbytes(self) -> int:
        """Bytes of the index, with its checksum."""
        return 16 * prod(self.counts) + 4 * self.checked


@dataclass(frozen=True, eq=False)
class Base:
    """An undamaged array."""

    name: str
    path: str
    values: Mapping[str, bytes]
    """The store."""

    @property
    def document_key(self) -> str:
        """Where the array's metadata lie."""
        prefix = f"{self.path}/" if self.path else ""
        return next(
            prefix + name for name in ("zarr.json", ".zarray") if prefix + name in self.values
        )

    @cached_property
    def document(self) -> Document:
        """The array's metadata document; not to be changed."""
        found: Document = json.loads(self.values[self.document_key])
        return found

    @cached_property
    def codecs(self) -> tuple[Document, ...]:
        """Every codec of the chain, in encode order, v2's under their v3 names."""
        return tuple(listed_codecs(self.document))

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of all codecs, those inside shards too."""
        return frozenset(every_name(self.codecs))

    @cached_property
    def checked(self) -> bool:
        """Whether a checksum covers every byte of a stored object that decides about values."""
        return is_checked(self.codecs)

    @cached_property
    def nested(self) -> bool:
        """Whether shards hold shards."""
        return [*every_name(self.codecs)].count("sharding_indexed") > 1

    @cached_property
    def plain(self) -> np.ndarray[Any, Any]:
        """What an undamaged read gives."""
        found: np.ndarray[Any, Any] = self.open()[...]
        return found

    def open(self) -> gpuzarr.Array:
        """The undamaged array."""
        return gpuzarr.open_array(dict(self.values), path=self.path, device="cpu")

    @cached_property
    def objects(self) -> Mapping[str, Coords]:
        """Keys of stored chunks or shards, and their places in the grid of objects."""
        ndim = len(self.document["shape"])
        found = {}
        for key in self.values:
            if key.rpartition("/")[2] in METADATA:
                continue
            coords = tuple(map(int, re.findall(r"\d+", key.removeprefix(self.path))))
            found[key] = coords if ndim else ()
        return found

    @cached_property
    def object_shape(self) -> tuple[int, ...] | None:
        """Shape of a stored chunk or shard; None where they differ."""
        if self.document["zarr_format"] == 2:
            return tuple(self.document["chunks"])
        grid = self.document["chunk_grid"]
        if not isinstance(grid, dict) or grid["name"] != "regular":
            return None
        return tuple(grid["configuration"]["chunk_shape"])

    def region(self, key: str) -> tuple[slice, ...] | None:
        """The part of the array that a stored object holds; None where that is not known."""
        if self.object_shape is None:
            return None
        corner = [i * n for i, n in zip(self.objects[key], self.object_shape, strict=True)]
        return tuple(slice(at, at + n) for at, n in zip(corner, self.object_shape, strict=True))

    @cached_property
    def index(self) -> ShardIndex | None:
        """The shards' index, where there are shards, with no others inside and nothing around."""
        if len(self.codecs) != 1 or self.codecs[0]["name"] != "sharding_indexed":
            return None
        settings = self.codecs[0]["configuration"]
        inside = [each["name"] for each in listed(settings["codecs"])]
        shape = self.object_shape
        if shape is None or "sharding_indexed" in inside:
            return None
        order, *rest = listed(settings["index_codecs"])
        return ShardIndex(
            tuple(n // c for n, c in zip(shape, settings["chunk_shape"], strict=True)),
            settings.get("index_location", "end"),
            [each["name"] for each in rest] == ["crc32c"],
            order.get("configuration", {}).get("endian") == "big",
        )

    def chunks_of(self, key: str) -> list[Coords]:
        """Coordinates of the chunks of a shard, in the order of its index."""
        assert self.index is not None
        first = [i * n for i, n in zip(self.objects[key], self.index.counts, strict=True)]
        inside = product(*map(range, self.index.counts))
        return [tuple(a + b for a, b in zip(first, at, strict=True)) for at in inside]


def listed(codecs: Any) -> list[Document]:
    """v3's codecs as objects, whatever short form they have."""
    found = [{"name": each} if isinstance(each, str) else each for each in codecs]
    return [{"configuration": {}, **each} for each in found]


def listed_codecs(document: Document) -> Iterator[Document]:
    """Every codec of a chain in encode order, under v3 names."""
    if document["zarr_format"] == 3:
        yield from listed(document["codecs"])
        return
    yield {"name": "bytes", "configuration": {}}
    for each in [*(document.get("filters") or ()), document.get("compressor")]:
        if each is not None:
            settings = {key: value for key, value in each.items() if key != "id"}
            yield {"name": f"numcodecs.{each['id']}", "configuration": settings}


def every_name(codecs: Any) -> Iterator[str]:
    """Names of codecs, and of those inside them."""
    for each in listed(codecs):
        yield each["name"]
        for below in ("codecs", "index_codecs"):
            yield from every_name(each["configuration"].get(below, ()))


def is_checked(codecs: Any) -> bool:
    """Whether some codec's checksum covers all that a chain stores, or all that it decodes to."""
    for each in listed(codecs):
        name, settings = each["name"], each["configuration"]
        if name in CHECKED:
            return True
        if name in ("zstd", "numcodecs.zstd") and settings.get("checksum"):
            return True
        if name == "numcodecs.lzma" and settings.get("format", 1) == 1 and settings.get("check"):
            return True
        if name == "sharding_indexed":
            parts = (settings["codecs"], settings["index_codecs"])
            if all(is_checked(part) for part in parts):
                return True
    return False


def load_bases() -> list[Base]:
    """All bases, in an order that never changes."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        documents = json.loads(archive.read("cases.json"))
        content = archive.read("cases.tar")
    files: dict[str, dict[str, bytes]] = {document["id"]: {} for document in documents}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        for member in tar:
            name, _, key = member.name.partition("/store/")
            if key and member.isfile() and (file := tar.extractfile(member)) is not None:
                files[name][key] = file.read()
    return [Base(each["id"], each["path"], files[each["id"]]) for each in documents]


def load_cases(folder: Path) -> list[Case]:
    """The bases as cases of the corpus, with the values that their writers gave."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        documents = json.loads(archive.read("cases.json"))
        content = archive.read("cases.tar")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")
    return [parse_case(document, folder / document["id"]) for document in documents]


# ----------------------------------------------------------------------------------- choosing


def choose(folder: Path) -> list[Case]:
    """The smallest case of each sort: chain of codecs, data type, grid."""
    corpus = Corpus(folder)
    best: dict[Any, tuple[int, Case]] = {}
    for case_id in sorted([*more(), *recipes(), *packed()]):
        case = _made(corpus, folder, case_id)
        if case.demand == "refuse" or case.selection is not None or not _is_read(case):
            continue
        files = [path for path in case.store.rglob("*") if path.is_file()]
        nbytes = sum(path.stat().st_size for path in files)
        if nbytes > MOST_NBYTES or not 2 <= len(files) <= MOST_OBJECTS:
            continue
        key = _sort_of(case)
        if key not in best or nbytes < best[key][0]:
            best[key] = (nbytes, case)
    return sorted((case for _, case in best.values()), key=lambda case: case.id)


def more() -> dict[str, Recipe]:
    """What the corpus lacks: N5 blocks, one of which is smaller than its chunk."""
    turned = {"name": "transpose", "configuration": {"order": [1, 0]}}
    recipes = Recipes("hostile")

    def add(name: str, codecs: list[Any], squeeze: Callable[[bytes], bytes]) -> None:
        def build(store: Path) -> Built:
            values = np.arange(63, dtype=np.int32).reshape(9, 7) * 1000
            document = v3_metadata(
                values.shape,
                (4, 4),
                codecs=[{"name": "n5_default", "configuration": {"codecs": codecs}}],
            )
            (store / "zarr.json").write_bytes(encoded(document))
            for row, column in product(range(3), range(2)):
                block = values[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                head = struct.pack(">2H2I", 0, 2, *block.shape)
                folder = store / "c" / str(row)
                folder.mkdir(parents=True, exist_ok=True)
                data = squeeze(np.ascontiguousarray(block.T).astype(">i4").tobytes())
                (folder / str(column)).write_bytes(head + data)
            return Built(values)

        recipes.add(f"n5-{name}", build, "v3-zarrs-codecs", demand="peer")

    big = {"name": "bytes", "configuration": {"endian": "big"}}
    add("plain", [turned, big], bytes)
    zip_codec = {"name": "gzip", "configuration": {"level": 5}}
    add("gzip", [turned, big, zip_codec], lambda data: gzip.compress(data, mtime=0))
    return recipes.as_dict()


def _made(corpus: Corpus, folder: Path, case_id: str) -> Case:
    if case_id in more():
        return write_case(folder, more()[case_id])
    if case_id in recipes() and not (folder / case_id).exists():
        return write_case(folder, recipes()[case_id])
    return corpus.case(case_id)


def _is_read(case: Case) -> bool:
    """Whether a case is read right, which not all have to be."""
    if case.demand != "optional":
        return True
    try:
        found = gpuzarr.open_array(case.store, path=case.path, device="cpu")[...]
    except gpuzarr.GpuzarrError:
        return False
    assert_equal(case.expected(), found)
    return True


def _sort_of(case: Case) -> Any:
    """What two bases must differ in to be worth having both."""
    name = "zarr.json" if case.zarr_format == 3 else ".zarray"
    document = json.loads((case.store / case.path / name).read_text())
    codecs = list(listed_codecs(document))
    names = tuple(every_name(codecs))
    plain = set(names) <= {"bytes", "endian"}
    grid = document.get("chunk_grid", {"name": "regular"})
    order = [
        each["configuration"].get(key)
        for each in codecs
        for key in ("index_location", "checksum", "cname", "format", "mode", "padding_encoding")
    ]
    # Of types there are many; what a codec makes of them is seen with a few.
    data_type = case.dtype if plain else np.dtype("O" if case.dtype == "object" else "u1").kind
    return (case.zarr_format, names, str(order), data_type, grid["name"])


def pack(cases: list[Case]) -> None:
    """Write the archive: `cases.json` and `cases.tar`, as the corpus packs its own."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for case in cases:
            for path in sorted(case.directory.rglob("*")):
                if path.is_file() and path.name != "case.json":
                    name = path.relative_to(case.directory.parent).as_posix()
                    entry = tarfile.TarInfo(name)
                    data = path.read_bytes()
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    documents = [json.loads((case.directory / "case.json").read_text()) for case in cases]
    with zipfile.ZipFile(ARCHIVE, "w") as out:
        for member, data in (
            ("cases.json", json.dumps(documents).encode()),
            ("cases.tar", content.getvalue()),
        ):
            info = zipfile.ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_LZMA
            out.writestr(info, data)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        chosen = choose(Path(scratch))
        pack(chosen)
    sys.stdout.write(f"{len(chosen)} bases, {ARCHIVE.stat().st_size} bytes\n")
