"""Committed cases: what cannot be written live in the main environment, packed small.

An archive is a zip of two members: `cases.json`, the description of every case, and `cases.tar`,
all their files. (One member a file would spend most of the archive on names: the chunks are tens
of bytes.) Packing twice gives the same bytes. Regenerate with

    python -m tests.conformance.pack zarr2       under zarr-python 2.18.7
    python -m tests.conformance.pack zarr34      under zarr-python 3.4, with cast-value-rs
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

from .case import Case, Recipe, parse_case, write_case
from .writers import zarr2, zarr3

FIXTURES = Path(__file__).parent / "fixtures"
ARCHIVES = ("zarr2", "zarr34")


def pack(name: str, recipes: dict[str, Recipe], target: Path) -> int:
    """Write and pack every recipe; returns their number. An archive is whole, or an error."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        documents = []
        for recipe in sorted(recipes.values(), key=lambda one: one.id):
            missing = recipe.missing()
            if missing:
                message = f"{name}: {recipe.id} needs {missing}"
                raise ModuleNotFoundError(message)
            with mock.patch("time.time", return_value=0.0):  # gzip members hold the time
                case = write_case(root, recipe)
            documents.append(json.loads((case.directory / "case.json").read_text()))
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for path in sorted(root.rglob("*")):
                entry = tarfile.TarInfo(path.relative_to(root).as_posix())
                if path.is_dir():
                    entry.type = tarfile.DIRTYPE
                    tar.addfile(entry)
                else:
                    content = path.read_bytes()
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    with zipfile.ZipFile(target, "w") as out:
        for member, content in (
            ("cases.json", json.dumps(documents).encode()),
            ("cases.tar", archive.getvalue()),
        ):
            info = zipfile.ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(info, content, compresslevel=9)
    return len(documents)


def packed_cases(name: str) -> dict[str, Case]:
    """The cases of an archive by id; their files are not extracted yet."""
    with zipfile.ZipFile(FIXTURES / f"{name}.zip") as archive:
        documents: list[dict[str, Any]] = json.loads(archive.read("cases.json"))
    return {document["id"]: parse_case(document, Path(document["id"])) for document in documents}


def unpack(name: str, root: Path) -> None:
    """Extract every case of an archive into `root`."""
    with zipfile.ZipFile(FIXTURES / f"{name}.zip") as archive:
        content = io.BytesIO(archive.read("cases.tar"))
    with tarfile.open(fileobj=content) as tar:
        tar.extractall(root, filter="data")


def _recipes(name: str) -> dict[str, Recipe]:
    return zarr2.cases() if name == "zarr2" else zarr3.cases_34()


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        target = FIXTURES / f"{wanted}.zip"
        count = pack(wanted, _recipes(wanted), target)
        sys.stdout.write(f"{wanted}: {count} cases, {target.stat().st_size} bytes\n")
