"""The documents of the GPU's benchmark, from the files that `gpu.py` kept: one table, one plot.

    python benchmarks/gpu_report.py bench.json [more.json ...] [--root CHECKOUT]

writes the tables into `benchmarks/GPU.md`, the plot to `benchmarks/results/gpu.svg`, and each
kernel's bandwidth into `kernels/README.md`; also the table of rows (a) to (h) into the README, if
that has the two marks for it. Files of later runs stand last; all must be of one machine and
commit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gpu_plot import plot
from gpu_results import SAME
from gpu_tables import FAKE, conditions, kernel_table, machine_name, main_table, markdown

Result = dict[str, Any]

BEGIN, END = "<!-- gpu.py: begin -->", "<!-- gpu.py: end -->"
MEASURED = ("ceilings", "rows", "small", "kernels", "decompression", "checksums")
PICTURE = "results/gpu.svg"
SHOWN = "Reads to a GPU: gpuzarr, its peers, and the limit of the machine"


def merged(files: list[Path]) -> Result:
    """The rows of several runs; later ones replace those of their name.

    Raises:
        SystemExit: the runs are not of one machine and commit.
    """
    results: list[Result] = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    whole = results[0]
    for result in results[1:]:
        for name in SAME:
            if result["machine"].get(name) != whole["machine"].get(name):
                raise SystemExit(f"these are not of one machine and commit: {name} differs")
        for section in MEASURED:
            rows = {row["name"]: row for row in whole.get(section, [])}
            for row in result.get(section, []):
                if "error" not in row or row["name"] not in rows:
                    rows[row["name"]] = row
            whole[section] = list(rows.values())
    return whole


def put_between(file: Path, text: str) -> None:
    """Replace what stands between the marks of a document.

    Raises:
        SystemExit: there are no marks.
    """
    old = file.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{file} has no {BEGIN} ... {END}")
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def write(result: Result, root: Path) -> None:
    """Write all documents of a checkout."""
    picture = root / "benchmarks" / PICTURE
    picture.parent.mkdir(exist_ok=True)
    picture.write_text(plot(result), encoding="utf-8")
    put_between(root / "benchmarks" / "GPU.md", f"![{SHOWN}]({PICTURE})\n\n{markdown(result)}")
    note = FAKE if result["machine"].get("fake") else ""
    parts = [note, machine_name(result), kernel_table(result)]
    put_between(root / "kernels" / "README.md", "\n\n".join(filter(None, parts)))
    readme = root / "README.md"
    if readme.exists() and BEGIN in readme.read_text(encoding="utf-8"):
        parts = [note, f"![{SHOWN}](benchmarks/{PICTURE})", machine_name(result)]
        parts += [main_table(result), conditions(result)]
        put_between(readme, "\n\n".join(filter(None, parts)))


def main() -> None:
    """Merge, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--root", type=Path, default=root, help="the checkout to write into")
    options = parser.parse_args()
    write(merged(options.files), options.root)


if __name__ == "__main__":
    main()
