"""One case of the corpus: an array in a directory store, and what reading it must give.

A `Recipe` is what a writer module lists: a name and a function that writes the store; listing is
cheap and imports no Zarr library. `write_case` runs a recipe; on disk a case is

    <root>/<id>/store/...      the store, as its writer left it
    <root>/<id>/case.json      everything in `Case` but the values
    <root>/<id>/expected.*     the values, see `values.py`

`load_case` reads that form back, so that committed cases and freshly written ones are one thing.
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .rows import ROWS, Demand, Row
from .values import assert_equal, describe, load_expected, save_expected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy as np

__all__ = [
    "ROWS",
    "Built",
    "Case",
    "Demand",
    "Recipe",
    "Recipes",
    "Row",
    "assert_equal",
    "load_case",
    "write_case",
]

Selection = tuple[int | slice, ...]


@dataclass(frozen=True)
class Built:
    """What a recipe's function hands back after it wrote the store."""

    expected: np.ndarray[Any, Any] | None
    """The array, or the crop of it that `selection` names; None where the reader must refuse."""
    path: str = ""
    """The array's node path inside the store."""
    shape: tuple[int, ...] | None = None
    """The whole array's shape, where `expected` is only a crop."""
    selection: Selection | None = None
    """The crop, of integers and slices, where the array is too large to read whole."""
    error: str | None = None
    """The class of the error a reader must raise, below GpuzarrError; None for any of that tree."""


@dataclass(frozen=True)
class Recipe:
    """One case before it is written."""

    id: str
    """Unique, fit for a directory name and for pytest."""
    writer: str
    """"zarr3", "zarr2", "tensorstore", "zarrs" or "handmade"."""
    zarr_format: int
    """2 or 3."""
    rows: tuple[str, ...]
    """Keys of `ROWS` that the case shows; the first gives the default demand."""
    build: Callable[[Path], Built] = field(repr=False)
    """Writes the store into an empty directory."""
    demand: Demand = "must"
    """What a reader owes."""
    tags: tuple[str, ...] = ()
    """Finer words: "dtype:int16", "codec:blosc", "endian:big"."""
    needs: tuple[str, ...] = ()
    """Modules that writing takes; without them the case is skipped."""

    def missing(self) -> list[str]:
        """The modules of `needs` that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


@dataclass(frozen=True)
class Case:
    """One case on disk."""

    id: str
    writer: str
    zarr_format: int
    rows: tuple[str, ...]
    demand: Demand
    tags: tuple[str, ...]
    path: str
    """The array's node path inside the store."""
    shape: tuple[int, ...] | None
    """The array's shape; None where the reader must refuse."""
    dtype: str | None
    """The array's data type in words (see `values.describe`); None where the reader must refuse."""
    selection: Selection | None
    """Read only this crop; None: read all."""
    error: str | None
    """Name of the error class a "refuse" case must raise."""
    directory: Path
    """Where the case lies."""

    @property
    def store(self) -> Path:
        """The store's root directory."""
        return self.directory / "store"

    def expected(self) -> np.ndarray[Any, Any]:
        """The expected values, of the crop if there is a selection."""
        assert self.dtype is not None, f"{self.id} is to be refused and has no values"
        assert self.shape is not None
        return load_expected(self.directory, self.dtype, self.shape)


class Recipes:
    """A writer's list of recipes, filled at import of its modules."""

    def __init__(self, writer: str, needs: tuple[str, ...] = ()) -> None:
        self.writer = writer
        self.needs = needs
        self._by_id: dict[str, Recipe] = {}

    def add(
        self,
        name: str,
        build: Callable[[Path], Built],
        *rows: str,
        zarr_format: int = 3,
        demand: Demand | None = None,
        tags: tuple[str, ...] = (),
        needs: tuple[str, ...] = (),
    ) -> None:
        """Add a recipe; the id is the writer, the format and the name."""
        case_id = re.sub(r"[^a-z0-9._+-]+", "_", f"{self.writer}-v{zarr_format}-{name}".lower())
        assert case_id not in self._by_id, f"two cases named {case_id}"
        assert rows, case_id
        assert all(row in ROWS for row in rows), f"{case_id}: unknown row in {rows}"
        self._by_id[case_id] = Recipe(
            id=case_id,
            writer=self.writer,
            zarr_format=zarr_format,
            rows=rows,
            build=build,
            demand=demand or ROWS[rows[0]].demand,
            tags=tags,
            needs=self.needs + needs,
        )

    def as_dict(self) -> dict[str, Recipe]:
        """All recipes by id."""
        return dict(self._by_id)

    def __iter__(self) -> Iterator[Recipe]:
        return iter(self._by_id.values())


def write_case(root: Path, recipe: Recipe) -> Case:
    """Run a recipe and leave the case in `root/<id>`."""
    directory = root / recipe.id
    (directory / "store").mkdir(parents=True)
    built = recipe.build(directory / "store")
    refused = recipe.demand == "refuse"
    assert refused == (built.expected is None), f"{recipe.id}: expected values and demand disagree"
    if built.expected is not None:
        save_expected(directory, built.expected)
    shape = (
        built.shape if built.shape is not None or built.expected is None else built.expected.shape
    )
    document = {
        "id": recipe.id,
        "writer": recipe.writer,
        "zarr_format": recipe.zarr_format,
        "rows": list(recipe.rows),
        "demand": recipe.demand,
        "tags": list(recipe.tags),
        "path": built.path,
        "shape": None if shape is None else list(shape),
        "dtype": None if built.expected is None else describe(built.expected.dtype),
        "selection": None
        if built.selection is None
        else [_item_to_json(item) for item in built.selection],
        "error": built.error,
    }
    (directory / "case.json").write_text(json.dumps(document, indent=1) + "\n")
    return load_case(directory)


def load_case(directory: Path) -> Case:
    """Read a case's description; the values are read by `Case.expected`."""
    return parse_case(json.loads((directory / "case.json").read_text()), directory)


def parse_case(document: dict[str, Any], directory: Path) -> Case:
    """A case from the document in its case.json."""
    selection = document["selection"]
    return Case(
        id=document["id"],
        writer=document["writer"],
        zarr_format=document["zarr_format"],
        rows=tuple(document["rows"]),
        demand=document["demand"],
        tags=tuple(document["tags"]),
        path=document["path"],
        shape=None if document["shape"] is None else tuple(document["shape"]),
        dtype=document["dtype"],
        selection=None if selection is None else tuple(_item_from_json(item) for item in selection),
        error=document["error"],
        directory=directory,
    )


def _item_to_json(item: int | slice) -> Any:
    return [item.start, item.stop, item.step] if isinstance(item, slice) else item


def _item_from_json(item: Any) -> int | slice:
    return slice(*item) if isinstance(item, list) else int(item)
