"""The README's tables, made from the registries: `python -m tests.readme_tables` writes them.

`test_readme.py` compares; a codec or data type that is added without its row fails there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args, get_type_hints

from gpuzarr.codecs import lower, sharding
from gpuzarr.engines.cuda.capability import reason_against
from gpuzarr.metadata import data_types
from gpuzarr.program import (
    Cast,
    CumulativeSum,
    Decompress,
    Reorder,
    ScaleOffset,
    Step,
    UnpackBits,
    Unshuffle,
    VerifyChecksum,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gpuzarr.engines.cuda.device import Decompressor

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


class _Complete:
    """A decompressor that lacks nothing."""

    version = "complete"

    def unsupported(self, what: str) -> None:
        del what


NUMBERS = (
    "i1",
    "i2",
    "i4",
    "i8",
    "u1",
    "u2",
    "u4",
    "u8",
    "f2",
    "f4",
    "f8",
    "c8",
    "c16",
    "bfloat16",
)
"""The types that steps on elements are asked about."""
ON_THE_GPU, ON_THE_HOST = "GPU", "host"

STEPS: Mapping[str, Callable[[str], Step]] = {
    "delta": lambda name: CumulativeSum(name, name),
    "fixedscaleoffset": lambda name: ScaleOffset(name, name, 2.5, 1.0, "fixedscaleoffset"),
    "scale_offset": lambda name: ScaleOffset(name, name, 2, 1, "scale_offset"),
    "astype": lambda name: Cast(name, "float64"),
    "cast_value": lambda name: Cast(name, "float64", '{"rounding":"nearest-even"}'),
    "packbits": lambda name: UnpackBits(name, 1),
}
"""Steps on elements, for a type."""


def gpu_table() -> str:
    """Where each step of decoding is done for results on a GPU, as the engine decides it."""
    steps: dict[str, Step] = {
        **{name: Decompress(name) for name in get_args(_hint(Decompress, "format"))},
        **{name: VerifyChecksum(name) for name in get_args(_hint(VerifyChecksum, "algorithm"))},
        "shuffle": Unshuffle(4),
        "transpose between other codecs": Reorder(4, (1, 0)),
    }
    rows = ["| codec | decoded on |", "|---|---|"]
    where = {name: _place(step) for name, step in steps.items()}
    for place in (ON_THE_GPU, ON_THE_HOST):
        names = [name for name, found in where.items() if found == place]
        rows.append(f"| {_listed(names)} | {place} |")
    for name, make in STEPS.items():
        able = [each for each in NUMBERS if _place(make(each)) == ON_THE_GPU]
        types = f"{ON_THE_GPU} for {_listed(able)}, else {ON_THE_HOST}" if able else ON_THE_HOST
        rows.append(f"| `{name}` | {types} |")
    rows.append(f"| all others | {ON_THE_HOST} |")
    return "\n".join(rows)


def _place(step: Step) -> str:
    return (
        ON_THE_GPU
        if reason_against(step, cast("Decompressor", _Complete())) is None
        else ON_THE_HOST
    )


def _hint(step: type[Step], name: str) -> object:
    return get_type_hints(step)[name]


def _listed(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


def with_tables(readme: str) -> str:
    """The README's text with its tables as they should be."""
    tables = {"codecs": codec_table(), "data types": data_type_table(), "gpu": gpu_table()}
    for name, table in tables.items():
        before, begin, rest = readme.partition(f"<!-- begin {name} -->\n")
        _, end, after = rest.partition(f"<!-- end {name} -->")
        if not end:
            raise ValueError(f"the README has no place for the table of {name}")
        readme = f"{before}{begin}{table}\n{end}{after}"
    return readme


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
