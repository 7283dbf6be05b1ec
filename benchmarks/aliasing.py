"""How fast files in the page cache are read to memory that begins at any place in a page.

Linux copies from the page cache, where a file's first byte lies at the start of a page. For each
size a file is read to the same memory, a number of bytes behind the start of a page, by one
`preadv`, and as the stores read, which go round slow places (`gpuzarr/stores/aliasing.py`). Places
and ways alternate; what is printed are medians in GB/s.
"""

from __future__ import annotations

import argparse
import mmap
import os
import statistics
import tempfile
import time

from report import conditions, print_table, write_json

from gpuzarr.stores.aliasing import PAGE_NBYTES
from gpuzarr.stores.files import read_at, read_vectored

SIZES = (1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22)
PLACES = (0, 1, 16, 31, 32, 64, 1024, PAGE_NBYTES - 16)
WAYS = {"preadv": read_vectored, "stores": read_at}


def measure(rounds: int) -> list[dict[str, float | str]]:
    """GB/s of each size, way and place."""
    memory = memoryview(mmap.mmap(-1, max(SIZES) + 2 * PAGE_NBYTES))
    memory[:] = bytes(len(memory))  # no page is given while it is timed
    seconds: dict[tuple[int, str, int], list[float]] = {}
    with tempfile.TemporaryFile() as file:
        file.write(os.urandom(max(SIZES)))
        file.flush()
        for _ in range(rounds):
            for nbytes in SIZES:
                for way, read in WAYS.items():
                    for place in PLACES:
                        target = memory[place : place + nbytes]
                        begin = time.perf_counter()
                        read(file.fileno(), target, 0)
                        spent = time.perf_counter() - begin
                        seconds.setdefault((nbytes, way, place), []).append(spent)
    return [
        {"nbytes": n, "way": way, "place": p, "gb_per_s": n / statistics.median(times) / 1e9}
        for (n, way, p), times in seconds.items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json")
    options = parser.parse_args()
    results = measure(options.rounds)
    rows = [
        [f"{nbytes >> 10} KiB, {way}"]
        + [f"{r['gb_per_s']:.1f}" for r in results if (r["nbytes"], r["way"]) == (nbytes, way)]
        for nbytes in SIZES
        for way in WAYS
    ]
    print_table(["GB/s to a place in a page", *map(str, PLACES)], rows)
    write_json(options.json, {"conditions": conditions(), "results": results})


if __name__ == "__main__":
    main()
