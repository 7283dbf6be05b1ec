"""The readers of `cpu.py`, and the process that each of them lives in.

`cpu.py` starts this file with an interpreter of its choice, since peers of other versions need
environments of their own, and talks to it in lines of JSON: a reader reads when it is told to.
Peers are set as their documentation recommends, or better; how, stands in their functions.

`cpu_readers.py versions` prints what the interpreter has; `cpu_readers.py READER FOLDER` serves.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cpu_workloads import CROPS, CROPS_BATCH, FULL, OPEN, OPEN_ONE, POINTS, ROWS, SLAB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Key = tuple[slice | int, ...]

PACKAGES = ("gpuzarr", "zarr", "zarrs", "tensorstore", "numpy", "numcodecs", "zstandard", "deflate")
SINGLE = (FULL, SLAB, CROPS, ROWS, POINTS, OPEN, OPEN_ONE)
"""Operations of any reader: single reads, or loops of them."""
SAMPLE = 5e-3
"""Seconds that a sample lasts at least: shorter operations are repeated within it."""


@dataclass(frozen=True)
class Reader:
    """One way to read an array: how it is opened, one selection read, and many in one call."""

    name: str
    label: str
    """What tables call it; {zarr} is zarr-python's version in its environment."""
    open: Callable[[str], Any]
    read: Callable[[Any, Key], Any]
    read_many: Callable[[Any, Sequence[Key]], Sequence[Any]] | None = None
    operations: tuple[str, ...] = SINGLE
    needs: tuple[str, ...] = ()
    zarr34: bool = False
    """Needs zarr-python >= 3.4."""


def open_gpuzarr(path: str) -> Any:
    """An array whose results are NumPy's, on machines with a GPU as well."""
    import gpuzarr  # noqa: PLC0415  each reader's process loads what it reads with

    return gpuzarr.open_array(path, device="cpu")


def read_one(array: Any, key: Key) -> Any:
    """One selection, with everything but tensorstore."""
    return array[key]


def read_batch(array: Any, keys: Sequence[Key]) -> Sequence[Any]:
    """All selections in one call."""
    import gpuzarr  # noqa: PLC0415

    result: Sequence[Any] = gpuzarr.read_batch([(array, key) for key in keys])
    return result


def open_zarr(path: str) -> Any:
    """zarr-python as it comes; its results of v2 arrays in F order are in F order, too."""
    import zarr  # noqa: PLC0415

    return zarr.open_array(path, mode="r")


def open_zarr_fused(path: str) -> Any:
    """zarr-python with the pipeline that decodes without its event loop."""
    import zarr  # noqa: PLC0415

    zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline"})
    return zarr.open_array(path, mode="r")


def open_zarrs(path: str) -> Any:
    """zarr-python with zarrs; strict: an error where zarr-python's own pipeline would read."""
    import zarr  # noqa: PLC0415

    zarr.config.set(
        {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}
    )
    return zarr.open_array(path, mode="r")


def read_zarrs(array: Any, key: Key) -> Any:
    """One selection; zarrs refuses most that mix integers and slices, so that it gets slices."""
    if len({type(part) for part in key}) == 1:
        return array[key]
    parts = tuple(part if isinstance(part, slice) else slice(part, part + 1) for part in key)
    kept = tuple(slice(None) if isinstance(part, slice) else 0 for part in key)
    return array[parts][kept]


def open_tensorstore(path: str) -> Any:
    """Without a cache of chunks: rounds would find them decoded."""
    import tensorstore  # noqa: PLC0415

    driver = "zarr3" if (Path(path) / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": path}}
    return tensorstore.open(spec, read=True).result()


def read_tensorstore(array: Any, key: Key) -> Any:
    """One selection."""
    return array[key].read().result()


def read_tensorstore_batch(array: Any, keys: Sequence[Key]) -> Sequence[Any]:
    """A read for each selection in one `Batch`."""
    import tensorstore  # noqa: PLC0415

    with tensorstore.Batch() as batch:
        futures = [array[key].read(batch=batch) for key in keys]
    return [future.result() for future in futures]


def read_tensorstore_stack(array: Any, keys: Sequence[Key]) -> Sequence[Any]:
    """One read of a virtual stack of all selections."""
    import tensorstore  # noqa: PLC0415

    crops = [array[key].translate_to[(0,) * array.ndim] for key in keys]
    result: Sequence[Any] = tensorstore.stack(crops).read().result()
    return result


def no_read(array: Any, key: Key) -> Any:
    """`limit` reads in a way of its own."""
    raise NotImplementedError(f"{array} has no {key}")


BATCHES = (*SINGLE, CROPS_BATCH)
TENSORSTORE = (open_tensorstore, read_tensorstore)
READERS = (
    Reader("gpuzarr", "gpuzarr", open_gpuzarr, read_one, read_batch, BATCHES),
    Reader("zarr", "zarr {zarr}", open_zarr, read_one, needs=("zarr",)),
    Reader("zarr34", "zarr {zarr}", open_zarr, read_one, needs=("zarr",), zarr34=True),
    Reader(
        "zarr34-fused", "zarr {zarr} fused", open_zarr_fused, read_one, needs=("zarr",), zarr34=True
    ),
    Reader("zarrs", "zarrs", open_zarrs, read_zarrs, needs=("zarr", "zarrs")),
    Reader(
        "tensorstore",
        "tensorstore",
        *TENSORSTORE,
        read_tensorstore_batch,
        BATCHES,
        ("tensorstore",),
    ),
    Reader(
        "tensorstore-stack",
        "tensorstore stack",
        *TENSORSTORE,
        read_tensorstore_stack,
        (CROPS_BATCH,),
        ("tensorstore",),
    ),
    Reader("limit", "limit", str, no_read, operations=(FULL, CROPS_BATCH)),
)
BY_NAME = {reader.name: reader for reader in READERS}


class WrongDataError(Exception):
    """A reader gave something else than the array holds."""


def prepared(
    reader: Reader, path: str, operation: str, keys: Sequence[Key], truth: NDArray[Any]
) -> Callable[[], Any]:
    """What is timed, after a first time whose results were compared with the truth."""
    if reader.name == "limit":
        return prepared_limit(path, keys, truth)
    if operation == OPEN:
        expect(agrees=tuple(reader.open(path).shape) == truth.shape, where="shape")
        return lambda: reader.open(path)
    if operation == OPEN_ONE:
        compare(reader.read(reader.open(path), keys[0]), truth, keys[0])
        return lambda: reader.read(reader.open(path), keys[0])
    array = reader.open(path)
    read_many = reader.read_many
    if operation == CROPS_BATCH and read_many is not None:
        for crop, key in zip(read_many(array, keys), keys, strict=True):
            compare(crop, truth, key)
        return lambda: read_many(array, keys)
    for key in keys:
        compare(reader.read(array, key), truth, key)
    return lambda: read_all(reader.read, array, keys)


def read_all(read: Callable[[Any, Key], Any], array: Any, keys: Sequence[Key]) -> Any:
    """A loop of reads; the last result is given back, for the caller to let go of."""
    result = None
    for key in keys:
        result = read(array, key)
    return result


def prepared_limit(path: str, keys: Sequence[Key], truth: NDArray[Any]) -> Callable[[], Any]:
    """The same for reading and decoding alone."""
    from cpu_limit import Limit  # noqa: PLC0415  needs gpuzarr's libraries

    from gpuzarr.engines.pool import cpu_count  # noqa: PLC0415

    limit = Limit(Path(path), keys, cpu_count())
    expect(agrees=limit.agrees(truth), where="a chunk")
    return limit.read


def compare(result: Any, truth: NDArray[Any], key: Key) -> None:
    """Compare a selection with the data that were written."""
    expect(agrees=np.array_equal(np.asarray(result), truth[key]), where=str(key))


def expect(*, agrees: bool, where: str) -> None:
    """Stop where a result is wrong."""
    if not agrees:
        raise WrongDataError(where)


def timed(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of one of several repeats; the last result is let go of outside the clock."""
    begin = time.perf_counter()
    for _ in range(repeats - 1):
        run()
    result = run()
    seconds = (time.perf_counter() - begin) / repeats
    del result
    return seconds


def memory_beyond(reader: Reader, path: str, key: Key) -> int:
    """Bytes by which the resident set grows at most in a read, less the result's.

    A read of one element comes before, which loads libraries and starts threads.
    """
    array = reader.open(path)
    reader.read(array, (0,) * len(key))
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # begins the peak anew
    result = reader.read(array, key)
    return status("VmHWM") - before - int(result.nbytes)


def status(name: str) -> int:
    """A size from the kernel's account of this process, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


class Server:
    """Does what `cpu.py` asks for, with one reader and one workload."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self._reader = reader
        self._path = str(folder / "array.zarr")
        self._truth = np.load(folder / "truth.npy", mmap_mode="r")
        self._run: Callable[[], Any] | None = None
        self._repeats = 1

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request."""
        match request["do"]:
            case "begin":
                return self._begin(request)
            case "memory":
                key = decode_keys(request["keys"])[0]
                return {"beyond": memory_beyond(self._reader, self._path, key)}
            case "read" if self._run is not None:
                return {"seconds": timed(self._run, self._repeats)}
        raise NotImplementedError(request["do"])

    def _begin(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read once, compare, and find out how often a sample has to read."""
        self._run = None
        keys = decode_keys(request["keys"])
        begin = time.perf_counter()
        run = prepared(self._reader, self._path, request["operation"], keys, self._truth)
        warm_up = time.perf_counter() - begin
        self._repeats = 1
        if warm_up < 1 and not request["cold"]:
            self._repeats = max(1, math.ceil(SAMPLE / timed(run, 1)))
        self._run = run
        return {"warm-up": warm_up}


def encode_keys(keys: Sequence[Key]) -> list[list[Any]]:
    """Selections as JSON has them: slices are pairs."""
    return [
        [[part.start, part.stop] if isinstance(part, slice) else part for part in key]
        for key in keys
    ]


def decode_keys(keys: Sequence[Sequence[Any]]) -> list[Key]:
    """Selections from JSON."""
    return [tuple(slice(*part) if isinstance(part, list) else part for part in key) for key in keys]


def versions() -> dict[str, str]:
    """What this interpreter has."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def serve(reader: Reader, folder: Path) -> None:
    """Answer requests until there are no more."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        server = Server(reader, folder)
        for line in sys.stdin:
            try:
                answer = server.answer(json.loads(line))
            except WrongDataError as error:
                answer = {"wrong": str(error)}
            except Exception as error:  # noqa: BLE001  whoever asked knows whether it matters
                answer = {"refuses": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Serve, or tell the versions."""
    if sys.argv[1] == "versions":
        print(json.dumps(versions()))
    else:
        serve(BY_NAME[sys.argv[1]], Path(sys.argv[2]))


if __name__ == "__main__":
    main()
