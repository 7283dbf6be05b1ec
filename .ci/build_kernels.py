"""Compile every CUDA source for every supported architecture, as the library would: no GPU needed.

Warnings are errors, and so are more than a few registers that spill to memory. `nvcc` must be on
PATH; where it is not, that is an error with GPUZARR_REQUIRE_NVCC=1 only. Needs gpuzarr installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpuzarr.engines.cuda.kernels import KERNELS, constant_defines, defines, source_text

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
PLACES = {"naxes": 3, "lists": 0, "pitch": 4, "field": 0, "item": 4, "swap": 0}
VALUES = {"source_type": 4, "result_type": 10, "arithmetic": 1, "has_scale": 1, "has_offset": 1}
VARIANTS = {
    "scatter.cu": ({**PLACES, "shuffled": 0}, {**PLACES, "shuffled": 1, **VALUES}),
}
"""Constants for which sources are compiled besides none."""
PARALLEL = 2
MOST_SPILLED = 32
"""Bytes; the compiler spills some words of its own accord, to have more threads at once."""


def main() -> int:
    """Compile; the exit status says whether all went well."""
    nvcc = shutil.which("nvcc")
    files = sorted({kernel.file for kernel in KERNELS.values()})
    if nvcc is None:
        print(f"nvcc is not on PATH: {len(files)} sources were not compiled")
        return int(os.environ.get("GPUZARR_REQUIRE_NVCC") == "1")
    jobs = [(file, constants) for file in files for constants in ({}, *VARIANTS.get(file, ()))]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PARALLEL) as pool:
        done = list(pool.map(lambda job: compile_source(nvcc, Path(folder), *job), jobs))
    print(f"{len(jobs)} builds of {len(files)} sources for {len(ARCHITECTURES)} architectures")
    return int(not all(done))


def compile_source(nvcc: str, folder: Path, file: str, constants: dict[str, int]) -> bool:
    """Compile one source for all architectures; whether it went well."""
    name = f"{Path(file).stem}-{len(constants)}"
    source = folder / f"{name}.cu"
    source.write_text(source_text(file))
    values = defines() | constant_defines(constants)
    command = [nvcc, "-fatbin", "-std=c++17", "--Werror", "all-warnings", "-Xptxas", "-v"]
    command += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    command += [f"-D{key}={value}" for key, value in values.items()]
    command += ["-o", str(folder / f"{name}.fatbin"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  ours
    registers = max(map(int, re.findall(r"Used (\d+) registers", done.stderr)), default=0)
    spilled = max(map(int, re.findall(r"(\d+) bytes spill stores", done.stderr)), default=0)
    good = done.returncode == 0 and spilled <= MOST_SPILLED
    what = f"{file}{' for constants' if constants else ''}"
    print(f"{what:34} {registers:4} registers {spilled:4} bytes spilled {'' if good else 'FAILED'}")
    if done.returncode:
        print(done.stderr)
    return good


if __name__ == "__main__":
    sys.exit(main())
