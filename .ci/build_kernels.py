"""Compile every CUDA source for every supported architecture, as the library would: no GPU needed.

Warnings are errors, and so are registers that spill to memory, but for variants that are built for
known constants. Architectures of one generation share the compiler's front end, in builds for
constants all of them, unless GPUZARR_TEST_FULL=1: that saves half of the time. `nvcc` must be on
PATH; where it is not, that is an error with GPUZARR_REQUIRE_NVCC=1 only. Needs a checkout and
Python, nothing else.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

GENERATIONS = ((75,), (80, 86, 89), (90,), (100, 120))
ARCHITECTURES = tuple(number for numbers in GENERATIONS for number in numbers)
PARALLEL = 2
FULL = os.environ.get("GPUZARR_TEST_FULL") == "1"
PLACES = {"naxes": 3, "lists": 0, "pitch": 4, "field": 0, "item": 4, "swap": 0, "shuffled": 0}
VALUES = {"source_type": 4, "result_type": 10, "arithmetic": 1, "has_scale": 1, "has_offset": 1}
VARIANTS: dict[str, tuple[dict[str, int], ...]] = {
    "scatter.cu": (
        PLACES,
        {**PLACES, "shuffled": 1, **VALUES},
        {**PLACES, "naxes": 2, "lists": 3, "pitch": 12, "field": 4, "swap": 4},
        {**PLACES, "naxes": 1, "pitch": 16, "item": 16, "swap": 8},
    ),
    "scatter_planes.cu": tuple({"item": item, "swap": item // 2} for item in (2, 4, 8, 16)),
}
"""Constants for which sources are compiled besides none."""

_ABOUT = re.compile(
    r"Compiling entry function '(\w+)' for 'sm_(\d+)'"
    r"|(\d+) bytes spill stores"
    r"|Used (\d+) registers"
)


class Usage(NamedTuple):
    """What a kernel needs on one architecture."""

    kernel: str
    architecture: int
    spilled: int
    registers: int


def load_table() -> Any:
    """The module with the sources' table, alone: the package around it would want NumPy."""
    path = Path(__file__).parents[1] / "gpuzarr" / "engines" / "cuda" / "kernels.py"
    spec = importlib.util.spec_from_file_location("kernels_table", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Compile; the exit status says whether all went well."""
    table = load_table()
    nvcc = shutil.which("nvcc")
    files = sorted({kernel.file for kernel in table.KERNELS.values()})
    if nvcc is None:
        print(f"nvcc is not on PATH: {len(files)} sources were not compiled")
        return int(os.environ.get("GPUZARR_REQUIRE_NVCC") == "1")
    jobs = [(file, constants) for file in files for constants in ({}, *VARIANTS.get(file, ()))]
    print(f"{'registers (/bytes spilled) on sm_':40}" + "".join(f"{a:<7}" for a in ARCHITECTURES))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(PARALLEL) as pool:
        done = pool.map(
            lambda number: compile_source(table, nvcc, Path(folder) / str(number), *jobs[number]),
            range(len(jobs)),
        )
        good = [tell(*job, *result) for job, result in zip(jobs, done, strict=True)]
    print(f"{len(jobs)} builds of {len(files)} sources for {len(ARCHITECTURES)} architectures")
    return int(not all(good))


def compile_source(
    table: Any, nvcc: str, folder: Path, file: str, constants: dict[str, int]
) -> tuple[bool, str]:
    """Compile one source for all architectures; whether that went well, and what was said."""
    folder.mkdir()
    source = folder / file
    source.write_text(table.source_text(file))
    values = table.defines() | table.constant_defines(constants)
    command = [nvcc, "-fatbin", "-std=c++17", "--Werror", "all-warnings", "-Xptxas", "-v"]
    command += [f"-gencode={target}" for target in targets(constants)]
    command += [f"-D{key}={value}" for key, value in values.items()]
    command += ["-o", str(source.with_suffix(".fatbin")), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  ours
    return done.returncode == 0, done.stdout + done.stderr


def targets(constants: dict[str, int]) -> list[str]:
    """What nvcc is to compile for: sets of architectures, each for the oldest of them."""
    together: tuple[tuple[int, ...], ...] = (ARCHITECTURES,) if constants else GENERATIONS
    if FULL:
        together = tuple((number,) for number in ARCHITECTURES)
    every = [",".join(f"sm_{number}" for number in numbers) for numbers in together]
    return [f"arch=compute_{n[0]},code=[{codes}]" for n, codes in zip(together, every, strict=True)]


def tell(file: str, constants: dict[str, int], compiled: bool, said: str) -> bool:  # noqa: FBT001
    """Print what the kernels of a build need; whether that is good."""
    print(f"{file}{f' for {constants}' if constants else ''}")
    if not compiled:
        print(f"{said}\nFAILED")
        return False
    usages = read_usages(said)
    for kernel in dict.fromkeys(usage.kernel for usage in usages):
        words = [
            f"{usage.registers}{f'/{usage.spilled}' if usage.spilled else ''}"
            for usage in usages
            if usage.kernel == kernel
        ]
        print(f"    {kernel:36}" + "".join(f"{word:7}" for word in words))
    spilling = {usage.kernel for usage in usages if not constants and usage.spilled}
    if spilling:
        print(f"FAILED: {', '.join(sorted(spilling))} may not spill")
    return not spilling


def read_usages(said: str) -> list[Usage]:
    """What the compiler says of each kernel on each architecture."""
    usages = []
    kernel, architecture, spilled = "", 0, 0
    for name, number, stores, registers in _ABOUT.findall(said):
        if name:
            kernel, architecture = name, int(number)
        elif stores:
            spilled = int(stores)
        else:
            usages.append(Usage(kernel, architecture, spilled, int(registers)))
    return usages


if __name__ == "__main__":
    sys.exit(main())
