"""The tables of `gpu.py` in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cpu_results import table
from gpu_ceilings import measured
from gpu_readers import OWN, READERS
from gpu_results import OTHER
from gpu_workloads import ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence

    Row = dict[str, Any]
    Result = dict[str, Any]

OTHERS = tuple(reader.name for reader in READERS if reader.name != OWN)
PEERS = tuple(name for name in OTHERS if not name.startswith(OWN))
ORDER = [name for workload in ROWS for name in workload.names()]
ABOUT = (
    "Decoded GB/s are bytes of the result, from files in the page cache to an array in device"
    " memory that has been waited for. Behind it, in how many times as long each peer gives the"
    " same result: the median of the ratios of each round; above 1, gpuzarr is faster. The limit is"
    " the slowest of what a read has to do, each alone at its ceiling on this machine: reading"
    " stored bytes into pinned memory, copying them to the device, nvCOMP on these very bytes,"
    " writing the result. Device memory is at its peak and counts the result; launches are of"
    " gpuzarr's kernels, calls those of nvCOMP. Readers have 9 rounds, short reads 45; where the"
    " first read takes more than a second a reader has 3, and with more than four seconds one."
)
FAKE = "**A rehearsal on a fake device: no time here means anything.**"


def markdown(result: Result) -> str:
    """All that is known."""
    parts = [
        FAKE if result["machine"].get("fake") else "",
        machine_name(result),
        *_titled("Rows", main_table(result), ABOUT),
        *_titled("Each reader, GB/s of the result", _speeds(result)),
        *_titled("Small requests", _small(result)),
        *_titled("Ceilings", _plain(result, "ceilings", ("GB/s", "ms"))),
        *_titled("Kernels alone", kernel_table(result)),
        *_titled(
            "nvCOMP alone",
            _plain(result, "decompression", ("GB/s", "ms", "stored / decoded", "temp, MiB")),
        ),
        *_titled("Checksums", _plain(result, "checksums", ("GB/s", "ms"))),
        _absent(result),
        _errors(result),
        conditions(result),
    ]
    return "\n\n".join(filter(None, parts))


def machine_name(result: Result) -> str:
    """The GPU, the processor, and how bytes reach the GPU."""
    machine = result["machine"]
    gpus = ", ".join(gpu.partition(",")[0] for gpu in machine["gpus"]) or "no GPU"
    direct = "with" if machine.get("gpudirect storage") else "without"
    return f"{gpus}; {machine['processor']}, {machine['cpus']} CPUs; {direct} GPUDirect Storage"


def conditions(result: Result) -> str:
    """What the numbers hold under."""
    machine = result["machine"]
    libraries = ", ".join(f"{name} {number}" for name, number in machine["libraries"].items())
    return (
        f"Conditions: gpuzarr {machine['commit']}, Python {machine['python']}, {libraries};"
        f" {machine.get('device', '')}; CUDA {machine.get('cuda', 'unknown')};"
        f" {'; '.join(machine['gpus']) or 'no GPU'}; {machine['system']}, load {machine['load']};"
        f" kvikio: {machine['kvikio']}; data from fixed seeds, made and written before; the first"
        " read of each reader is checked against the data and not timed."
    )


def kernel_table(result: Result) -> str:
    """Each kernel, and its share of what a copy inside the device moves."""
    rows = _good(result, "kernels")
    try:
        moved = measured(result["ceilings"]).moved / 1e9
    except LookupError:
        return ""
    heads = ("moved, MB", "us", "GB/s")
    lines = [
        [row["name"], *(text(row[head]) for head in heads), f"{row['GB/s'] / moved:.0%}"]
        for row in rows
    ]
    return table(["kernel", *heads, "of a copy"], lines) if lines else ""


def text(value: Any) -> str:
    """A number as a cell: three digits that mean something.

    >>> text(0.01234), text(12.34), text(1234.5), text(7), text("cuda")
    ('0.0123', '12.3', '1,234', '7', 'cuda')
    """
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"  # noqa: PLR2004
    return f"{value:,}" if isinstance(value, int) else str(value)


def _titled(title: str, body: str, about: str = "") -> list[str]:
    return [f"### {title}", about, body] if body else []


def good_rows(result: Result) -> list[Row]:
    """Rows (a) to (h) that have numbers, in their order."""
    return _good(result, "rows")


def peers_in(rows: Sequence[Row]) -> list[str]:
    """The peers that read any of the rows."""
    return _taking_part(rows, PEERS)


def _good(result: Result, section: str) -> list[Row]:
    """Rows with numbers; those of workloads in their order, however they were measured."""
    rows = [row for row in result.get(section, []) if "error" not in row]
    return sorted(rows, key=lambda row: ORDER.index(row["name"])) if section == "rows" else rows


def _taking_part(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Those that read any of the rows."""
    return [name for name in names if any("ms" in row["readers"].get(name, {}) for row in rows)]


def main_table(result: Result) -> str:
    """Rows (a) to (h): gpuzarr, the ratio to each peer, the limit."""
    rows = good_rows(result)
    peers = peers_in(rows)
    lines = []
    for row in rows:
        own = row["readers"][OWN]
        ratios = [_ratio(row["readers"].get(peer, {})) for peer in peers]
        lines.append(
            [
                f"({row['name'][0]}) {row['what']}",
                text(row["result, MB"]),
                f"{row['stored / decoded']:.2f}",
                text(own["GB/s"]),
                *ratios,
                text(row["limit, GB/s"]),
                row["limited by"],
                f"{row['of the limit']:.0%}",
                f"{row['launches']} + {row['nvCOMP calls']}",
                text(row["peak device memory, MB"]),
            ]
        )
    heads = ["row", "MB", "stored", "gpuzarr, GB/s", *(f"x {peer}" for peer in peers)]
    heads += ["limit, GB/s", "by", "reached", "launches + calls", "device MB"]
    return table(heads, lines) if lines else ""


def _ratio(row: Row) -> str:
    if "ratio" not in row:
        return "refuses" if "refuses" in row else "wrong" if "wrong" in row else ""
    return f"{row['ratio']:.1f}" if row["ratio"] >= 1 else f"{row['ratio']:.2f}"


def _speeds(result: Result) -> str:
    rows = good_rows(result)
    readers = [OWN, *_taking_part(rows, OTHERS)]
    lines = []
    for row in rows:
        speeds = [text(row["readers"].get(name, {}).get("GB/s", "")) for name in readers]
        alone = text(row.get("nvCOMP alone, GB/s", ""))
        least = [f"{value:.2f}" for value in row["limit, ms"].values()]
        lines.append([row["name"], *speeds, alone, *least])
    parts = ["read, ms", "copy, ms", "decompress, ms", "scatter, ms"]
    return table(["row", *readers, "nvCOMP alone", *parts], lines) if lines else ""


def _small(result: Result) -> str:
    rows = _good(result, "small")
    peers = _taking_part(rows, OTHERS)
    lines = []
    for row in rows:
        own = row["readers"][OWN]
        ratios = [_ratio(row["readers"].get(peer, {})) for peer in peers]
        cells = [text(1e3 * own["ms"]), *ratios, f"{row['launches']} + {row['nvCOMP calls']}"]
        lines.append([row["name"].removeprefix("s, "), *cells, str(row["copies"])])
    heads = ["read", "gpuzarr, us", *(f"x {peer}" for peer in peers), "launches + calls", "copies"]
    return table(heads, lines) if lines else ""


def _plain(result: Result, section: str, heads: Sequence[str]) -> str:
    lines = [
        [row["name"], *(text(row.get(head, "")) for head in heads)]
        for row in _good(result, section)
    ]
    return table([section, *heads], lines) if lines else ""


def _absent(result: Result) -> str:
    """Why readers are not in a table: each reason once."""
    found: dict[str, list[str]] = {}
    for row in [*_good(result, "rows"), *_good(result, "small")]:
        for reader, about in row["readers"].items():
            for kind in ("missing", "refuses", "wrong"):
                if kind in about:
                    why = "WRONG DATA" if kind == "wrong" else about[kind]
                    found.setdefault(f"{reader}: {why}", []).append(row["name"])
    every = len(_good(result, "rows")) + len(_good(result, "small"))
    lines = [
        f"- {why}" if len(names) == every else f"- {why} ({'; '.join(names)})"
        for why, names in sorted(found.items())
    ]
    return "\n".join(["Readers that are not there:", "", *lines]) if lines else ""


def _errors(result: Result) -> str:
    lines = [
        f"- {section}, {row['name']}: {row['error']}"
        for section, rows in result.items()
        if section not in OTHER
        for row in rows
        if "error" in row
    ]
    return "\n".join(["Rows without numbers:", "", *lines]) if lines else ""
