"""What the compiler makes of the kernels that have to reach the memory's bandwidth, without a GPU.

PTX says how wide loads and stores are; the assembler says what does not fit into registers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from gpuzarr.engines.cuda.kernels import (
    KERNELS,
    constant_defines,
    defines,
    source_text,
)

if TYPE_CHECKING:
    from pathlib import Path

ARCHITECTURE = "sm_90"
NVCC = shutil.which("nvcc")
needs_nvcc = pytest.mark.skipif(NVCC is None, reason="nvcc is not on PATH")


class Code(NamedTuple):
    """A compiled kernel."""

    ptx: str
    assembler: str
    """What it says of registers and memory."""

    def count(self, instruction: str) -> int:
        return len(re.findall(rf"\b{re.escape(instruction)}\b", self.ptx))


def compiled(kernel: str, folder: Path, constants: dict[str, int] | None = None) -> Code:
    assert NVCC is not None
    source = folder / KERNELS[kernel].file
    source.write_text(source_text(source.name))
    values = defines() | constant_defines(constants)
    command = [NVCC, "-cubin", f"-arch={ARCHITECTURE}", "-std=c++17", "-Xptxas", "-v", "--keep"]
    command += [f"--keep-dir={folder}", "-o", str(source.with_suffix(".cubin")), str(source)]
    command += [f"-D{name}={value}" for name, value in values.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Code(source.with_suffix(".ptx").read_text(), done.stdout + done.stderr)


WIDE = (
    ("copy_ranges", None, "ld.global.nc.v4.u32", 4),
    ("scatter_rows", None, "ld.global.nc.v4.u32", 4),
    ("scatter_planes", {"item": 2, "swap": 0}, "ld.global.nc.v2.u32", 2),
    ("scatter_planes", {"item": 4, "swap": 0}, "ld.global.nc.u32", 4),
    ("scatter_planes", {"item": 8, "swap": 0}, "ld.global.nc.u16", 8),
    ("bit_unshuffle", None, "ld.shared.v4.u32", 7),
)
"""A kernel, the constants that it is compiled for, its widest load, and how many at once."""


@needs_nvcc
@pytest.mark.parametrize(("kernel", "constants", "load", "at_once"), WIDE)
def test_bytes_move_in_vectors_and_stay_in_registers(
    kernel: str, constants: dict[str, int] | None, load: str, at_once: int, tmp_path: Path
) -> None:
    code = compiled(kernel, tmp_path, constants)
    assert code.count(load) >= at_once
    assert code.count("st.global.cg.v4.u32") >= 1
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in code.assembler
    assert "local" not in re.sub(r"//.*", "", code.ptx)


@needs_nvcc
@pytest.mark.parametrize("kernel", ["copy_ranges", "scatter_rows"])
def test_loads_are_under_way_together(kernel: str, tmp_path: Path) -> None:
    """Four loads of a thread come before the first store of what they bring."""
    ptx = compiled(kernel, tmp_path).ptx
    wide = re.findall(r"(ld\.global\.nc|st\.global\.cg)\.v4\.u32", ptx)
    words = " ".join(word[:2] for word in wide)
    assert "ld ld ld ld st st st st" in words
