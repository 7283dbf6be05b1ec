"""The side of `cpu.py` that the readers' processes talk to, and the page cache."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cpu_readers import BY_NAME, encode_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType

    from cpu_readers import Key, Reader

SCRIPT = str(Path(__file__).with_name("cpu_readers.py"))
PROBE = 4096
"""Bytes that are asked for to see whether a file is in the page cache."""


class ReaderProcess:
    """A reader with a workload, that waits to be told."""

    def __init__(self, reader: Reader, python: str, folder: Path) -> None:
        """Start it with an interpreter."""
        self.reader = reader
        self._process = subprocess.Popen(  # noqa: S603  this checkout's script, the user's Python
            [python, "-W", "ignore", SCRIPT, reader.name, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        with suppress(BrokenPipeError):
            self._process.communicate()

    def begin(self, operation: str, keys: Sequence[Key], *, cold: bool) -> dict[str, Any]:
        """Read once and compare: the seconds that this took, or why the reader refuses."""
        request = {"operation": operation, "keys": encode_keys(keys), "cold": cold}
        return self._ask("begin", **request)

    def seconds(self) -> float:
        """Read, and tell how long it took."""
        answer = self._ask("read")
        if "refuses" in answer:
            raise RuntimeError(f"{self.reader.name} failed later: {answer['refuses']}")
        return float(answer["seconds"])

    def memory(self, key: Key) -> dict[str, Any]:
        """The peak of memory beyond the result, in bytes, or why the reader refuses."""
        return self._ask("memory", keys=encode_keys([key]))

    def _ask(self, what: str, **details: Any) -> dict[str, Any]:
        reader, process = self.reader.name, self._process
        if process.stdin is None or process.stdout is None:
            raise AssertionError("pipes were asked for")
        with suppress(BrokenPipeError):  # it has ended: there is no answer
            process.stdin.write(json.dumps({"do": what, **details}) + "\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{reader}: its process ended with status {process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "wrong" in answer:
            raise AssertionError(f"{reader} read something else: {answer['wrong']}")
        return answer


def versions_of(python: str) -> dict[str, str]:
    """What an interpreter has."""
    command = [python, "-W", "ignore", SCRIPT, "versions"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  the same
    found: dict[str, str] = json.loads(done.stdout)
    return found


def takes_part(name: str, versions: dict[str, str]) -> bool:
    """Whether a reader can run with these versions."""
    reader = BY_NAME[name]
    if any(package not in versions for package in reader.needs):
        return False
    return not reader.zarr34 or newer_zarr(versions)


def newer_zarr(versions: dict[str, str]) -> bool:
    """Whether zarr-python is 3.4 or newer."""
    major, minor = versions.get("zarr", "0.0").split(".")[:2]
    return (int(major), int(minor)) >= (3, 4)


def drop_cached(files: Iterable[Path]) -> None:
    """Drop files that are on the disk from the page cache."""
    for path in files:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def share_cached(files: Sequence[Path]) -> float:
    """The share of files whose beginning is in the page cache; asking may bring it there."""
    cached = 0
    for path in files:
        file = os.open(path, os.O_RDONLY)
        with suppress(BlockingIOError):
            cached += os.preadv(file, [bytearray(PROBE)], 0, os.RWF_NOWAIT) > 0
        os.close(file)
    return cached / len(files)
