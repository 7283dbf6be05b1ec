"""What a run found, as `results.json` and as the table in the README."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.hostile import watch
from tests.hostile.inputs import first_digests
from tests.hostile.kinds import KINDS
from tests.hostile.worker import NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.hostile.inputs import Tools

FOLDER = Path(__file__).parent
README = FOLDER / "README.md"
RESULTS = FOLDER / "results.json"
FINDINGS = FOLDER / "findings.json"
INPUTS = FOLDER / "inputs.json"
COMPRESSED = {
    "archives far away",
    "archives that lie",
    "bombs in text",
    "damaged archives",
    "decompression bombs",
    "fields of archives",
    "references in Parquet",
}
"""Kinds whose bytes the machine's own compressors make, which differ by version."""
BEGIN, END = "<!-- begin results -->\n", "<!-- end results -->"

Results = dict[str, Any]


def kept() -> list[dict[str, Any]]:
    """What was a finding once."""
    found: list[dict[str, Any]] = json.loads(FINDINGS.read_text(encoding="utf-8"))
    return found


def frozen() -> dict[str, str]:
    """What the first inputs of each kind are, as `first_digests` has it."""
    found: dict[str, str] = json.loads(INPUTS.read_text(encoding="utf-8"))
    return found


def freeze(tools: Tools) -> None:
    """Write down what the first inputs of each kind are now."""
    found = first_digests(tools, sorted(KINDS.keys() - COMPRESSED))
    INPUTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def results(shares: Sequence[watch.Share]) -> Results:
    """The counts of a run, by kind; nothing that depends on the machine."""
    counts = watch.counts(shares)
    found = Counter(each["kind"] for share in shares for each in share.all_findings())
    rows = {
        name: dict(
            zip(("inputs", "refused", "right", "untold"), map(int, counts[number]), strict=True),
            findings=found[name],
        )
        for number, name in enumerate(NAMES)
    }
    return {
        "commit": commit(),
        "inputs": sum(row["inputs"] for row in rows.values()),
        "on_cuda": watch.on_cuda(shares),
        "findings": sum(found.values()),
        "kinds": rows,
    }


def commit() -> str:
    """The checkout's commit, and whether there is more in it."""

    def ask(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no", "--", "../../gpuzarr")
    return ask("rev-parse", "--short=10", "HEAD") + (" with changes" if changed else "")


def table(results: Results) -> str:
    """The counts in Markdown."""
    inputs, on_cuda, findings = (f"{results[key]:,}" for key in ("inputs", "on_cuda", "findings"))
    run = (
        f"{inputs} inputs, {on_cuda} of them by the CUDA engine too, at commit {results['commit']}"
    )
    for name, at in results.get("again", {}).items():
        run += f", *{name}* once more at {at}"
    lines = [
        f"{run}: {findings} findings.",
        "",
        "| kind of damage | promised | inputs | refused | right | cannot be told | findings |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, row in sorted(
        results["kinds"].items(), key=lambda item: (-item[1]["inputs"], item[0])
    ):
        numbers = [row[key] for key in ("inputs", "refused", "right", "untold", "findings")]
        promise = KINDS[name].promise if name in KINDS else ""
        lines.append(f"| {name} | {promise} | " + " | ".join(f"{n:,}" for n in numbers) + " |")
    return "\n".join(lines)


def with_table(text: str, results: Results) -> str:
    """The README with a run's table in it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError("the README has no place for the table")
    return f"{before}{begin}{table(results)}\n{end}{after}"


def saved() -> Results:
    """What the last long run found."""
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def again(kept: Results, results: Results, name: str) -> Results:
    """A run, with what another found since of one kind of input in the place of its own."""
    kinds = {**kept["kinds"], name: results["kinds"][name]}
    return {
        **kept,
        "inputs": sum(row["inputs"] for row in kinds.values()),
        "findings": sum(row["findings"] for row in kinds.values()),
        "kinds": kinds,
        "again": {**kept.get("again", {}), name: results["commit"]},
    }


def save(results: Results) -> None:
    """Write both."""
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = with_table(README.read_text(encoding="utf-8"), results)
    README.write_text(text, encoding="utf-8")
