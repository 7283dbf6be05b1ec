"""The CUDA sources compiled by g++, and launched as on a GPU, one thread block after another.

A source is compiled when one of its kernels is first launched, and kept in the temporary directory
under a name made of everything that went into it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from gpuzarr.engines.cuda.kernels import (
    KERNELS,
    THREADS,
    constant_defines,
    defines,
    kernels_folder,
    source_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC")
SANITIZE = os.environ.get("GPUZARR_SANITIZE_KERNELS") == "1"
"""Whether this is a process that was started to run kernels with sanitizers."""
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g")

Launcher = tuple["Callable[..., bytes | None]", int]


class HostKernels:
    """Kernels on the host."""

    def __init__(self, *, sanitize: bool = False) -> None:
        """Compile nothing yet.

        Args:
            sanitize: with AddressSanitizer and UndefinedBehaviorSanitizer, whose libraries must be
                loaded already.
        """
        self._flags = (*FLAGS, *SANITIZERS) if sanitize else FLAGS
        self._libraries: dict[object, ctypes.CDLL] = {}
        self._launchers: dict[object, Launcher] = {}
        # One block after another in one machine's state: so one launch after another.
        self._lock = threading.RLock()

    def launch(
        self,
        kernel: str,
        blocks: int,
        arguments: Sequence[int],
        constants: Mapping[str, int] | None = None,
    ) -> None:
        """Run a kernel, as `Device.launch` does.

        Raises:
            TypeError: another number of arguments than the kernel has parameters.
            RuntimeError: threads of a block wait for others that never come.
        """
        with self._lock:
            run, count = self._launcher(kernel, tuple(sorted((constants or {}).items())))
            if len(arguments) != count:
                raise TypeError(f"{kernel}: {len(arguments)} arguments for {count} parameters")
            words = (ctypes.c_longlong * max(count, 1))(*map(_signed, arguments))
            error = run(blocks, THREADS, words)
        if error:
            raise RuntimeError(f"{kernel}: {error.decode()}")

    def _launcher(self, kernel: str, constants: tuple[tuple[str, int], ...]) -> Launcher:
        key = (kernel, constants)
        if key not in self._launchers:
            library = self._library(KERNELS[kernel].file, constants)
            run = getattr(library, f"{kernel}_on_host")
            run.restype = ctypes.c_char_p
            run.argtypes = [ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p]
            count = getattr(library, f"{kernel}_parameters")()
            if count != KERNELS[kernel].parameters:
                raise TypeError(f"{kernel} has {count} parameters, not as `KERNELS` says")
            self._launchers[key] = (run, count)
        return self._launchers[key]

    def _library(self, file: str, constants: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
        key = (file, constants)
        if key not in self._libraries:
            path = compile_for_host(
                file, self._flags, defines() | constant_defines(dict(constants))
            )
            self._libraries[key] = ctypes.CDLL(str(path))
        return self._libraries[key]


def compile_for_host(file: str, flags: Sequence[str], values: Mapping[str, int]) -> Path:
    """A shared library of one source."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise RuntimeError("the kernels are tested on the host: install g++")
    text = source_text(file)
    words = [*flags, *(f"-D{name}={value}" for name, value in values.items())]
    header = (kernels_folder() / "host.h").read_text()
    name = hashlib.sha256("\0".join([text, header, *words]).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"gpuzarr-kernels-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    library = folder / f"{Path(file).stem}-{name}.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory(dir=folder) as work:
        source = Path(work) / file
        source.write_text(text)
        made = Path(work) / "library.so"
        command = [compiler, *words, "-shared", f"-I{kernels_folder()}", "-x", "c++", str(source)]
        done = subprocess.run(
            [*command, "-o", str(made)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{file} does not compile for the host:\n{done.stderr}")
        made.replace(library)
    return library


def _signed(value: int) -> int:
    """Addresses above the middle of the range, as the signed numbers of the same bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


@cache
def host_kernels() -> HostKernels:
    """The kernels; with sanitizers in a process that was started for them."""
    return HostKernels(sanitize=SANITIZE)
