"""The observations of a GPU check as tables in Markdown, for DESIGN.md.

    python benchmarks/observations.py [FILE]

The first table is "what a damaged payload does, by format": what is not in the file, which
`gpu_check.sh test` writes, has not been seen on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

DEFAULT = Path(__file__).parent / "results" / "latest" / "observations.json"
NOT_YET = "not seen on a GPU yet"
SURVIVES, DIED = "context survives", "process"

FORMATS = {
    "LZ4": ("lz4", "a status", "crc32c, where the chain has it"),
    "zstd": (
        "zstd",
        "limited validation only",
        "XXH64 inside, where the frame has it; crc32c",
    ),
    "deflate (zlib)": ("deflate", "limited validation only", "Adler-32, always"),
    "gzip": ("gzip", "limited validation only", "CRC-32, always"),
    "Snappy": ("snappy", "limited validation only", "crc32c"),
}
"""For each row: the format's name in questions, and the two columns that nothing observed fills."""
BLOSCLZ = ("blosclz", "our kernel: every bound is checked", "crc32c")
READS = ("cpu", "gpu", "gpu alone")


def summary(answers: list[dict[str, Any]]) -> str:
    """What nvCOMP made of damaged streams of a format.

    >>> summary([{"verdict": "refused", "context survives": True}] * 2)
    '2 of 2 refused; the context survived'
    """
    if not answers:
        return NOT_YET
    verdicts = Counter(answer["verdict"] for answer in answers if "verdict" in answer)
    parts = [
        f"{verdicts[verdict]} {words}"
        for verdict, words in (
            ("refused", "refused"),
            ("another size", "told by the size"),
            ("wrong data", "wrong data, called good"),
            ("right data", "without effect"),
        )
        if verdicts[verdict]
    ]
    parts += [
        f"{count} {words}"
        for count, words in (
            (sum("verdict" not in answer for answer in answers), "with an error or no answer"),
            (sum(answer.get("guards") is False for answer in answers), "wrote beside the output"),
            (
                sum(answer.get("neighbour right") is False for answer in answers),
                "spoilt the stream beside",
            ),
        )
        if count
    ]
    first, *others = parts
    number, _, words = first.partition(" ")
    told = ", ".join([f"{number} of {len(answers)} {words}", *others])
    lost = sum(not answer.get(SURVIVES, False) for answer in answers)
    return f"{told}; the context {f'was lost {lost} times' if lost else 'survived'}"


def damage_table(found: dict[str, Any]) -> list[list[str]]:
    """A row a format, as DESIGN.md has it."""
    rows = [["format", "what its documentation promises", "seen on a GPU", "guarded by"]]
    for title, (name, promise, guard) in FORMATS.items():
        asked = [answer for key, answer in found.items() if key.startswith(f"damaged {name}:")]
        rows.append([title, promise, summary(asked), guard])
    name, promise, guard = BLOSCLZ
    reads = [answer for key, answer in found.items() if key.startswith(f"read of blosc {name} ")]
    seen = NOT_YET
    if reads:
        results = Counter(answer.get("gpu alone", "no answer") for answer in reads)
        seen = ", ".join(f"{count} {what}" for what, count in results.most_common())
    return [*rows, [name, promise, seen, guard]]


def reads_table(found: dict[str, Any]) -> list[list[str]]:
    """How whole reads of damaged arrays ended: on the CPU, by the engine's choice, on the GPU."""
    rows = [["damaged array", *READS, "good arrays afterwards"]]
    grouped: dict[str, list[dict[str, Any]]] = {}
    for key, answer in found.items():
        if key.startswith("read of "):
            grouped.setdefault(key.removeprefix("read of ").partition(":")[0], []).append(answer)
    for name, answers in sorted(grouped.items()):
        cells = [
            ", ".join(
                f"{count} {what}"
                for what, count in Counter(a.get(read, "no answer") for a in answers).most_common()
            )
            for read in READS
        ]
        right = sum(
            answer.get(read) == "right data"
            for answer in answers
            for read in ("good after", "good at last")
        )
        rows.append([name, *cells, f"{right} of {2 * len(answers)} right"])
    return rows


def others_table(found: dict[str, Any]) -> list[list[str]]:
    """The other questions, with their answers as they are."""
    rows = [["question", "answer"]]
    for key, answer in sorted(found.items()):
        if not key.startswith(("damaged ", "read of ")):
            known = {k: v for k, v in answer.items() if (k, v) != (SURVIVES, True)}
            rows.append([key, ", ".join(f"{k}: {_text(v)}" for k, v in known.items())])
    return rows


def _text(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def print_rows(rows: list[list[str]]) -> None:
    """A table as DESIGN.md has them."""
    for number, row in enumerate(rows):
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")
        if number == 0:
            print("|---" * len(row) + "|")
    print()


def main() -> None:
    """Print what is known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    file = parser.parse_args().file
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    machine = file.with_name("setup.json")
    if found and machine.exists():
        known = json.loads(machine.read_text())
        print(f"{'; '.join(known['gpus'])}; {known['libraries']}; commit {known['commit']}\n")
    print_rows(damage_table(found))
    if found:
        print_rows(reads_table(found))
        print_rows(others_table(found))


if __name__ == "__main__":
    main()
