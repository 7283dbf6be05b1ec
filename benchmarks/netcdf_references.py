"""Reads a NetCDF4 file through references, and compares with HDF5's own library.

An example that is checked: it draws weather, writes it with h5py as NetCDF4 files are laid out
(chunked, shuffled, compressed by deflate, packed into 16 bits, dimension scales), has kerchunk
write down where the chunks are, and reads the file by gpuzarr without HDF5, and by h5py. It ends
with an error unless every value is the same. Both read in turns; the first round is not timed, the
page cache is warm, and HDF5 keeps no decoded chunks, so that both decode in every round. It prints
h5py's time over gpuzarr's, the median of the rounds: above 1, gpuzarr is faster.

    python benchmarks/netcdf_references.py [--quick] [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from kerchunk.hdf import SingleHdf5ToZarr
from report import conditions, print_table, write_json

import gpuzarr
from gpuzarr.stores.references.store import ReferenceStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Read = Callable[[], NDArray[Any]]

SHAPE, CHUNK = (240, 360, 720), (24, 90, 180)
"""Of variables along time, latitude and longitude."""
QUICK = 4
"""`--quick` divides the lengths by this."""
SELECTIONS = {
    "all": (...,),
    "a day": (slice(100, 104),),
    "a place": (slice(None), 45, 90),
    "a region": (slice(None), slice(20, 60), slice(30, 110)),
}
VARIABLES = {
    "temperature": {"dtype": "i2", "compression": "gzip", "compression_opts": 4, "shuffle": True},
    "wind": {"dtype": "f4", "compression": "gzip", "compression_opts": 1, "shuffle": True},
    "pressure": {"dtype": "f4"},
    "height": {"dtype": "f4", "chunks": None},
}
"""How h5py stores each; chunked unless it says otherwise."""


def draw_weather(shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Values of each variable, as they are stored."""
    random = np.random.default_rng(0)
    time_, y, x = (np.linspace(0, 2 * np.pi, n) for n in shape)
    smooth = np.sin(time_)[:, None, None] + np.cos(y)[:, None] * np.sin(3 * x)
    field = smooth + 0.05 * random.standard_normal(shape).astype("f4")
    return {
        "temperature": np.round(1000 * field).astype("i2"),
        "wind": np.round(field * 64).astype("f4") / 64,
        "pressure": (1000 + field).astype("f4"),
        "height": np.cumsum(field, 0).astype("f4"),
    }


def write_file(path: Path, weather: dict[str, NDArray[Any]], chunk: tuple[int, ...]) -> None:
    """Write as NetCDF4 lies in HDF5."""
    with h5py.File(path, "w") as file:
        names = ("time", "latitude", "longitude")
        shape = next(iter(weather.values())).shape
        for name, size in zip(names, shape, strict=True):
            file.create_dataset(name, data=np.arange(size, dtype="f8")).make_scale(name)
        for name, values in weather.items():
            options: dict[str, Any] = {"chunks": chunk, **VARIABLES[name]}
            data = file.create_dataset(name, values.shape, **options)
            data[...] = values
            for axis, scale in enumerate(names):
                data.dims[axis].attach_scale(file[scale])


def scan(path: Path) -> ReferenceStore:
    """The references of a file."""
    with path.open("rb") as file:
        document = SingleHdf5ToZarr(file, str(path), inline_threshold=0).translate()
    return ReferenceStore.from_document(document)


def measure(ours: Read, theirs: Read, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each, reading in turns."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for turn in (number % 2, 1 - number % 2):
            began = time.perf_counter()
            (ours, theirs)[turn]()
            seconds[turn].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    """Write, scan, read, check, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small file: to see that it runs")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file")
    options = parser.parse_args()
    divisor = QUICK if options.quick else 1
    weather = draw_weather(tuple(n // divisor for n in SHAPE))
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weather.nc"
        write_file(path, weather, tuple(n // divisor for n in CHUNK))
        store = scan(path)
        with h5py.File(path, rdcc_nbytes=0) as file:
            for name, expected in weather.items():
                array = gpuzarr.open_array(store, path=name, device="cpu")
                data = file[name]
                for what, key in SELECTIONS.items():
                    key = tuple(_shrunk(each, divisor) for each in key)  # noqa: PLW2901

                    def ours(array: Any = array, key: Any = key) -> NDArray[Any]:
                        return array[key]  # type: ignore[no-any-return]

                    def theirs(data: Any = data, key: Any = key) -> NDArray[Any]:
                        return data[key]  # type: ignore[no-any-return]

                    for read in (ours, theirs):
                        if not np.array_equal(read(), expected[key]):
                            sys.exit(f"{name}, {what}: not what was written")
                    mine, their = measure(ours, theirs, options.rounds)
                    pairs = zip(their, mine, strict=True)
                    ratio = statistics.median(b / a for b, a in pairs)
                    milliseconds = f"{1e3 * statistics.median(mine):.2f}"
                    rows.append([f"{name}, {what}", milliseconds, f"{ratio:.2f}"])
                    results.append(
                        {"variable": name, "selection": what, "gpuzarr": mine, "h5py": their}
                    )
    print_table(("NetCDF4 by references", "gpuzarr ms", "h5py / gpuzarr"), rows)
    print("every value is what was written")
    write_json(options.json, {"conditions": conditions(), "results": results})


def _shrunk(part: Any, divisor: int) -> Any:
    """A part of a selection, for arrays that are smaller."""
    if isinstance(part, int):
        return part // divisor
    if isinstance(part, slice) and part.start is not None:
        start = part.start // divisor
        return slice(start, max(start + 1, part.stop // divisor))
    return part


if __name__ == "__main__":
    main()
