"""A large array that takes little room on disk, and a store that logs what processes read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import zstandard

from gpuzarr.stores.local import LocalStore
from gpuzarr.stores.store import WHOLE, Store
from tests.arrays import encoded, v3_metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from gpuzarr.stores.store import Blob

ROWS = 128
ROW = 1 << 16
"""Elements of a chunk's row; a chunk of float32 has `ROWS` of them, 32 MiB."""
PERIOD = 1024


def write_steps(folder: Path, nchunks: int) -> int:
    """Write a float32 array (nchunks * ROWS, ROW), in `nchunks` chunks of 32 MiB that differ.

    Chunk i holds i * PERIOD, ..., i * PERIOD + PERIOD - 1, again and again.

    Returns:
        The sum of all elements.
    """
    zstd = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
    document = v3_metadata(
        (nchunks * ROWS, ROW), (ROWS, ROW), data_type="float32", codecs=["bytes", zstd]
    )
    (folder / "zarr.json").write_bytes(encoded(document))
    compress = zstandard.ZstdCompressor(level=1).compress
    step = np.tile(np.arange(PERIOD, dtype="<f4"), ROWS * ROW // PERIOD)
    for number in range(nchunks):
        chunk = folder / "c" / str(number) / "0"
        chunk.parent.mkdir(parents=True)
        chunk.write_bytes(compress(step.data))
        step += PERIOD
    nelements = nchunks * ROWS * ROW
    return nelements * (nchunks * PERIOD - 1) // 2


class LoggedStore(Store):
    """The files below a folder; every process adds what it does to one log, a line each."""

    def __init__(self, root: Path, log: Path) -> None:
        self.name = str(root)
        self.log = log
        self._files = LocalStore(root)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._note("unpickled")

    def read(
        self,
        key: str,
        offset: int = 0,
        nbytes: int = WHOLE,
        allocate: Callable[[int], Any] = bytearray,
    ) -> Blob | None:
        """Log, and read."""
        self._note(key)
        return self._files.read(key, offset, nbytes, allocate)

    def list(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        """Not logged."""
        return self._files.list(prefix)

    def _note(self, what: str) -> None:
        with self.log.open("a") as log:  # lines that are appended at once stay whole
            log.write(f"{os.getpid()} {what}\n")
