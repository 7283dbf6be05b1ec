"""Read a selection into a .npy file, or print it."""

from __future__ import annotations

import os
import shutil
import tempfile
from math import prod
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.cli.explain import add_selection_argument
from gpuzarr.cli.node import add_node_arguments, open_array
from gpuzarr.cli.regions import Edges, split_range
from gpuzarr.cli.screen import format_nbytes, format_shape
from gpuzarr.cli.selection import Index, Key, parse_selection
from gpuzarr.errors import SelectionError, StoreError, UnsupportedError

if TYPE_CHECKING:
    import argparse

    from gpuzarr.array import Array
    from gpuzarr.cli.screen import Screen

HELP = "read a selection into a .npy file"

WHOLE_NBYTES = 256 * 2**20
"""Results up to this size are read at once; larger ones go to the file piece by piece."""
PRINTED = 10**7
"""Elements; more than this are not printed."""
PIECE_NBYTES = 64 * 2**20
"""About how large a piece is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An array, a selection, a file."""
    add_node_arguments(parser)
    add_selection_argument(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, help="the .npy file to write (print instead)"
    )
    parser.add_argument("--dtype", type=np.dtype, help="cast to this type on the way")


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Read, and write or print."""
    array = open_array(args)
    key = parse_selection(args.select)
    started = perf_counter()
    if args.output is None:
        check_printable(array, key)
        result = to_host(array.read(key, dtype=args.dtype))
        screen.text(np.array2string(result, separator=", "))
        screen.document({"shape": result.shape, "dtype": result.dtype, "values": result})
        return 0
    dtype = file_dtype(array, key, args.dtype)
    shape = result_shape(array.shape, key)
    if shape is None or not in_pieces(dtype, shape):
        result = plain(to_host(array.read(key, dtype=args.dtype)))
        with _Replacing(args.output) as path, path.open("wb") as file:
            np.save(file, result, allow_pickle=False)
    else:
        with _Replacing(args.output) as path:
            result = make_file(path, dtype, shape)
            write_pieces(array, key, args.dtype, result, screen)
    seconds = perf_counter() - started
    screen.text(
        f"wrote {args.output}: {result.dtype} {format_shape(result.shape)}, "
        f"{format_nbytes(result.nbytes)} in {seconds:.2f} s "
        f"({format_nbytes(result.nbytes / seconds)}/s)"
    )
    screen.document(
        {
            "output": args.output,
            "shape": result.shape,
            "dtype": result.dtype,
            "nbytes": result.nbytes,
            "seconds": seconds,
        }
    )
    return 0


def check_printable(array: Array, key: Key) -> None:
    """Refuse to print what nobody would look at, before it is read.

    Raises:
        SelectionError: more than `PRINTED` elements.
    """
    shape = result_shape(array.shape, key)
    count = array.size if shape is None and key is ... else prod(shape or ())
    if count > PRINTED:
        raise SelectionError(
            f"{count} elements are too many to print; write them to a file with -o, "
            "or choose fewer with --select",
            path=array.path,
        )


def in_pieces(dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether a result is written in pieces; text is not, for its width is known at the end."""
    return dtype.kind not in "OT" and dtype.itemsize * prod(shape) > WHOLE_NBYTES


def to_host(result: Any) -> np.ndarray:
    """A result as a NumPy array, from whichever device."""
    return result if isinstance(result, np.ndarray) else np.asarray(result.get())


def file_dtype(array: Array, key: Key, dtype: np.dtype | None) -> np.dtype:
    """The dtype that a .npy file of this read holds.

    Raises:
        UnsupportedError: a type that .npy holds only as a pickle, or not at all.
    """
    stored = array.dtype[key] if isinstance(key, str) else array.dtype
    wanted = stored if dtype is None else dtype
    if wanted.kind == "V" and wanted.type is not np.void:
        raise UnsupportedError(
            f"a .npy file cannot hold {wanted}: readers would see raw bytes; "
            "give a type that it can hold, such as --dtype float32",
            path=array.path,
        )
    if wanted.hasobject and array.metadata.data_type.name != "string":
        raise UnsupportedError(
            f"a .npy file holds {array.metadata.data_type.name} elements only as a pickle, "
            "which gpuzarr does not write; leave -o away to print them, or use gpuzarr from Python",
            path=array.path,
        )
    return wanted


def plain(result: np.ndarray) -> np.ndarray:
    """Text of any length as NumPy's text of fixed length, which .npy can hold; else the same."""
    if result.dtype.kind not in "OT":
        return result
    return np.asarray(result.tolist(), dtype=np.str_).reshape(result.shape)


def result_shape(shape: tuple[int, ...], key: Any) -> tuple[int, ...] | None:
    """The shape of what a key of integers and slices gives; None where only reading tells."""
    entries = key if isinstance(key, tuple) else (key,)
    if any(isinstance(entry, list | str) for entry in entries):
        return None
    try:
        # A broadcast scalar has the array's shape and no memory of its own.
        shown: tuple[int, ...] = np.broadcast_to(np.empty((), np.uint8), shape)[key].shape
    except IndexError as error:
        raise SelectionError(str(error)) from error
    except ValueError:  # more elements than NumPy counts: the selection may still be small
        return None
    return shown


def make_file(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """Make a .npy file of the right length that holds a header and, so far, nothing.

    Raises:
        StoreError: the disk has no room for it.
    """
    nbytes = dtype.itemsize * prod(shape)
    free = shutil.disk_usage(path.parent).free
    if nbytes > free:
        raise StoreError(
            f"the result has {format_nbytes(nbytes)}, and {path.parent} has {format_nbytes(free)} "
            "left; select less"
        )
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def write_pieces(
    array: Array, key: Key, cast: np.dtype | None, result: np.memmap, screen: Screen
) -> None:
    """Append `array[key]` to a file that `make_file` made, a few chunks at a time.

    The cut is along the first axis of the result that is longer than one, so that pieces follow
    one another in the file. They are written, not copied into mapped memory: a disk that
    fills up is then an error, and not the end of the process.
    """
    entries = expand(key, array.ndim)
    place, axis = longest_cut(entries, array.shape)
    entry = entries[place]
    assert isinstance(entry, slice)  # noqa: S101  what `longest_cut` looks for
    positions = range(array.shape[axis])[entry]
    most = max(PIECE_NBYTES * len(positions) // result.nbytes, 1)
    edges = Edges(array.shape[axis], array.chunks[axis])
    path = Path(str(result.filename))
    with path.open("r+b") as file, screen.progress("reading", len(positions)) as advance:
        file.seek(-result.nbytes, os.SEEK_END)
        for begin, end in split_range(positions, edges, most):
            run = positions[begin:end]
            # A range down to the first element stops at -1, which a slice takes for the last.
            entries[place] = slice(run.start, run.stop if run.stop >= 0 else None, run.step)
            piece = to_host(array.read(tuple(entries), dtype=cast))
            file.write(piece.reshape(-1).view(np.uint8).data)
            advance(end - begin)


def expand(key: Any, ndim: int) -> list[Index]:
    """A key of integers, slices, None and `...` with an entry for each of `ndim` axes.

    >>> expand((..., None, 3), 3)
    [slice(None, None, None), slice(None, None, None), None, 3]
    """
    entries = list(key) if isinstance(key, tuple) else [key]
    missing = ndim - sum(entry is not None and entry is not ... for entry in entries)
    place = entries.index(...) if ... in entries else len(entries)
    entries[place : place + 1] = [slice(None)] * missing
    return entries


def longest_cut(entries: list[Index], shape: tuple[int, ...]) -> tuple[int, int]:
    """Where to cut a read: the first slice of more than one element.

    Returns:
        Its place among the entries, and its axis in the array.
    """
    axis = 0
    for place, entry in enumerate(entries):
        if isinstance(entry, slice) and len(range(shape[axis])[entry]) > 1:
            return place, axis
        axis += entry is not None
    raise SelectionError("one element of the result is larger than any memory")


class _Replacing:
    """A file beside `path` that takes its place when the block ends well, and else goes.

    A read that fails half way leaves no file that looks whole.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Path:
        handle, name = tempfile.mkstemp(prefix=".", suffix=".npy", dir=self._path.parent)
        os.close(handle)
        self._part = Path(name)
        return self._part

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._part.unlink(missing_ok=True)
            return
        # mkstemp makes private files; a result is an ordinary one.
        mask = os.umask(0)
        os.umask(mask)
        self._part.chmod(0o666 & ~mask)
        self._part.replace(self._path)
