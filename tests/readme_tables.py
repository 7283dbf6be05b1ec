"""The README's tables, made from the registries: `python -m tests.readme_tables` writes them.

`test_readme.py` compares; a codec or data type that is added without its row fails there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpuzarr.codecs import lower, sharding
from gpuzarr.metadata import data_types

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

README = Path(__file__).parent.parent / "README.md"

NUMCODECS = "numcodecs."

UNKNOWN_TO_V3 = {"endian"}
"""Names that are read for the sake of old files and appear in no specification."""

SHARDING_KIND = "array -> bytes"
"""Sharding holds chains of its own, so it is not in the table of codecs."""

DATA_TYPES: Mapping[str, str] = {
    "_numpy_type": "themselves",
    "_small_type": "ml_dtypes' types of these names",
    "_small_complex": "ml_dtypes' complex types where it has them, else fields `re` and `im`",
    "_string": "`StringDType` (`object` before NumPy 2)",
    "_bytes": "`object`, each a `bytes`",
    "_fixed_length": "`U`, `S`, `V`",
    "_time": "`M8`, `m8`, with all units and factors",
    "_struct": "structured types, nested as well",
}
"""What NumPy gives for the types that a function of `gpuzarr.metadata.data_types` builds."""


def codec_table() -> str:
    """Every codec of gpuzarr's own, by kind."""
    kinds = [codec.kind for codec in lower.CODECS.values()] + [SHARDING_KIND]
    rows = [
        "| | codecs of v3 | codecs of numcodecs: v2's ids, v3's `numcodecs.*` |",
        "|---|---|---|",
    ]
    for kind in sorted(set(kinds)):
        names = {name for name, codec in lower.CODECS.items() if codec.kind == kind}
        names |= {sharding.NAME} if kind == SHARDING_KIND else set()
        plain = {name for name in names if not name.startswith(NUMCODECS)} - UNKNOWN_TO_V3
        numcodecs = {name.removeprefix(NUMCODECS) for name in names if name.startswith(NUMCODECS)}
        rows.append(f"| {kind} | {_listed(sorted(plain))} | {_listed(sorted(numcodecs))} |")
    return "\n".join([*rows, "", "Any other codec that numcodecs knows is decoded by numcodecs."])


def data_type_table() -> str:
    """Every data type of v3, by what it becomes."""
    groups: dict[str, list[str]] = {}
    for name, builder in data_types._BUILDERS.items():  # noqa: SLF001  the registry itself
        groups.setdefault(builder.__name__, []).append(name)
    rows = ["| data types of v3 | in NumPy |", "|---|---|"]
    rows += [f"| {_listed(names)} | {DATA_TYPES[made]} |" for made, names in groups.items()]
    rows += [
        "| `r8`, `r16`, ... | `V` |",
        "| **v2**: `b i u f c S U V M m` in both byte orders, structured types | the same |",
        "| **v2**: `\\|O` with a codec for text | `StringDType` (`object` before NumPy 2) |",
        "| **v2**: `\\|O` with a codec for bytes, arrays, JSON, msgpack, categories | `object` |",
    ]
    return "\n".join(rows)


def _listed(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def with_tables(readme: str) -> str:
    """The README's text with its tables as they should be."""
    for name, table in (("codecs", codec_table()), ("data types", data_type_table())):
        before, begin, rest = readme.partition(f"<!-- begin {name} -->\n")
        _, end, after = rest.partition(f"<!-- end {name} -->")
        if not end:
            raise ValueError(f"the README has no place for the table of {name}")
        readme = f"{before}{begin}{table}\n{end}{after}"
    return readme


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
