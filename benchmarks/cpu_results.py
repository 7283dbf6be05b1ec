"""The tables of `cpu.py` in Markdown, and their place in a README."""

from __future__ import annotations

from statistics import geometric_mean
from typing import TYPE_CHECKING, Any

from cpu_workloads import CROPS_BATCH, FULL, OPEN, OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    Row = dict[str, Any]
    Result = dict[str, Any]

MEMORY = "memory"
"""The operation that is not timed."""
LIMIT = "limit"
MIB = 1 << 20
BEGIN, END = "<!-- cpu.py: begin -->", "<!-- cpu.py: end -->"
HEADING = "## CPU: every reader"
PICTURE = "results/cpu.svg"
"""Beside the README."""
ABOUT = (
    "A reader's time over gpuzarr's, the median of the ratios of each round, with the least and the"
    " most: above 1, gpuzarr is faster. The first column of numbers is gpuzarr's own median time;"
    " for crops, rows and points that of all of them. `slab` is half of the first axis; `crops` a"
    " loop of single reads; `crops_batch` the same crops in one call; `rows` 100 lines along the"
    " last axis and `points` 100 elements, in a loop; `open_one` opens and reads an element. No"
    " number: the reader refuses, or has no such call."
)


def markdown(result: Result) -> str:
    """All that is known, as a section of a README."""
    rows = result["results"]
    warm = [row for row in rows if "median" in row and not row["cold"]]
    cold = [row for row in rows if "median" in row and row["cold"]]
    peers = [name for name in result["readers"] if name not in ("gpuzarr", LIMIT)]
    parts = [
        ABOUT,
        _ratios(result, peers, cold=False),
        _means(warm, peers),
        _slower(warm),
        _limits(result, warm),
        _memory(result, peers),
    ]
    if cold:
        kept = max(row["cached"] for row in cold)
        parts += [
            f"The same with an empty page cache ({kept:.0%} of the files were still in it).",
            _ratios(result, peers, cold=True),
            _means(cold, peers),
        ]
    return "\n\n".join(filter(None, [*parts, _refusals(rows), _conditions(result)]))


def summary(rows: Sequence[Row]) -> str:
    """A line for whoever waits: the readers of an operation."""
    first = rows[0]
    texts = [
        f"{row['reader']} {row['ratio']:.2f}" if "ratio" in row else f"{row['reader']} refuses"
        for row in rows[1:]
    ]
    name = f"{first['workload']} {first['operation']}{', cold' if first['cold'] else ''}"
    return f"{name}: {time_text(first['median'])}; {', '.join(texts)}"


def update(readme: Path, text: str, picture: str) -> None:
    """Put the section between its markers, or at the end, and the plot beside the README."""
    old = readme.read_text(encoding="utf-8") if readme.exists() else ""
    shown = f"![Each reader's time over gpuzarr's for each workload]({PICTURE})"
    block = f"{BEGIN}\n\n{shown}\n\n{text}\n\n{END}"
    if BEGIN in old:
        before, _, rest = old.partition(BEGIN)
        new = before + block + rest.partition(END)[2]
    else:
        new = f"{old.rstrip()}\n\n{HEADING}\n\n{block}\n".lstrip()
    readme.write_text(new, encoding="utf-8")
    file = readme.parent / PICTURE
    file.parent.mkdir(exist_ok=True)
    file.write_text(picture, encoding="utf-8")


def time_text(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds * 1e6)} us"


def _digits(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"  # noqa: PLR2004


def _range(ratio: float, least: float, most: float) -> str:
    return f"{_digits(ratio)} ({_digits(least)}-{_digits(most)})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table in Markdown whose first columns stand at the left."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    rules = [
        "-" * width if place < left else "-" * (width - 1) + ":"
        for place, width in enumerate(widths)
    ]
    lines = []
    for cells in (heads, rules, *rows):
        places = enumerate(zip(cells, widths, strict=True))
        texts = (text.ljust(w) if place < left else text.rjust(w) for place, (text, w) in places)
        lines.append(f"| {' | '.join(texts)} |")
    return "\n".join(lines)


def _filled(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table without the columns in which there is nothing."""
    used = [place for place, cells in enumerate(zip(*rows, strict=True)) if any(cells)]
    return table([heads[i] for i in used], [[row[i] for i in used] for row in rows], left=left)


def _find(rows: Sequence[Row], **wanted: Any) -> Row | None:
    """The row of a workload, an operation and a reader."""
    found = (row for row in rows if all(row.get(name) == value for name, value in wanted.items()))
    return next(found, None)


def _ratios(result: Result, peers: Sequence[str], *, cold: bool) -> str:
    lines = []
    for workload in result["workloads"]:
        for operation in OPERATIONS:
            wanted = {"workload": workload, "operation": operation, "cold": cold}
            own = _find(result["results"], **wanted, reader="gpuzarr")
            if own is None:
                continue
            cells = []
            for peer in peers:
                row = _find(result["results"], **wanted, reader=peer)
                known = row is not None and "ratio" in row
                cells.append(_range(row["ratio"], row["least"], row["most"]) if known else "")
            lines.append([workload, operation, time_text(own["median"]), *cells])
    return _filled(["array", "read", "gpuzarr", *peers], lines, left=2) if lines else ""


def _means(rows: Sequence[Row], peers: Sequence[str]) -> str:
    """Geometric means over the workloads that a reader reads."""
    lines = []
    for operation in OPERATIONS:
        ratios = {
            peer: [r["ratio"] for r in rows if (r["operation"], r["reader"]) == (operation, peer)]
            for peer in peers
        }
        count = sum(r["operation"] == operation and r["reader"] == "gpuzarr" for r in rows)
        cells = []
        for found in ratios.values():
            note = f" ({len(found)} of {count})" if len(found) < count else ""
            cells.append(f"{_digits(geometric_mean(found))}{note}" if found else "")
        if any(cells):
            lines.append([operation, *cells])
    if not lines:
        return ""
    heading = "Geometric means over the arrays, and over how many where a reader refuses some:"
    return f"{heading}\n\n{_filled(['read', *peers], lines)}"


def _slower(rows: Sequence[Row]) -> str:
    found = [
        f"{row['workload']} {row['operation']}, {row['reader']}: {_digits(row['ratio'])}"
        for row in rows
        if row["ratio"] < 1 and row["reader"] != LIMIT
    ]
    return f"Where gpuzarr is slower: {'; '.join(found) or 'nowhere'}."


def _limits(result: Result, rows: Sequence[Row]) -> str:
    lines = []
    for workload in result["workloads"]:
        cells = []
        for operation in (FULL, CROPS_BATCH):
            row = _find(rows, workload=workload, operation=operation, reader=LIMIT)
            if row is None:
                cells += ["", ""]
            else:
                inverse = [1 / row[name] for name in ("ratio", "most", "least")]
                cells += [time_text(row["median"]), _range(*inverse)]
        if any(cells):
            lines.append([workload, *cells])
    if not lines:
        return ""
    heads = ["array", "limit, full", "gpuzarr / limit", "limit, crops_batch", "gpuzarr / limit"]
    heading = "gpuzarr's time over that of reading and decoding alone, each chunk once (`limit`):"
    return f"{heading}\n\n{_filled(heads, lines)}"


def _memory(result: Result, peers: Sequence[str]) -> str:
    lines = []
    for workload, about in result["workloads"].items():
        cells = []
        for reader in ("gpuzarr", *peers):
            row = _find(result["results"], workload=workload, operation=MEMORY, reader=reader)
            known = row is not None and "beyond" in row
            cells.append(f"{max(0, row['beyond']) / MIB:.0f}" if known else "")
        if any(cells):
            lines.append([workload, f"{about['decoded'] / MIB:.0f}", *cells])
    if not lines:
        return ""
    shown = _filled(["array", "result", "gpuzarr", *peers], lines)
    return f"Peak memory of a full read beyond its result, MiB:\n\n{shown}"


def _refusals(rows: Sequence[Row]) -> str:
    """Which reader refuses which reads of a workload, or all of them; why stands in the JSON."""
    tried: dict[str, dict[str, dict[str, bool]]] = {}
    for row in rows:
        of_reader = tried.setdefault(row["reader"], {})
        if row["operation"] != OPEN:
            of_reader.setdefault(row["workload"], {})[row["operation"]] = "refuses" in row
    texts = []
    for reader, workloads in tried.items():
        names = [
            name
            if all(operations.values())
            else f"{name} ({', '.join(filter(operations.get, operations))})"
            for name, operations in workloads.items()
            if any(operations.values())
        ]
        if names:
            texts.append(f"{reader}: {', '.join(names)}")
    return f"Refused, by {'; by '.join(texts)}." if texts else ""


def _conditions(result: Result) -> str:
    arrays = [
        f"- {name}: {about['what']}; {about['decoded'] / MIB:.0f} MiB, stored / decoded"
        f" {about['stored'] / about['decoded']:.2f}"
        for name, about in result["workloads"].items()
    ]
    found = result["conditions"]
    versions = {
        name: ", ".join(f"{package} {number}" for package, number in environment.items())
        for name, environment in result["versions"].items()
    }
    here, newer = versions["readers"], versions["zarr 3.4"]
    also = f"; zarr 3.4's: {newer}" if newer != here else ""
    quick = "small arrays, to see that it runs: no result; " if result["quick"] else ""
    conditions = (
        f"Conditions: {quick}rounds: {result['rounds']}; commit {found['commit']}; {here}{also};"
        f" {found['processor']}, {found['cpus']} CPUs (load {found['load']}), {found['system']};"
        f" {result['date']}."
    )
    return "\n".join([*arrays, "", conditions])
