"""Decode every stored chunk of every array, and name those that cannot be decoded.

Where the store can list, what is stored is read, and everything in the nodes' folders that belongs
to no chunk and no metadata is named as a note. Chunks that are not stored are counted: they are the
fill value. Where it cannot list, each chunk is asked for.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from math import prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from gpuzarr.array import Array
from gpuzarr.cli.command_line import INTERRUPTED
from gpuzarr.cli.node import add_node_arguments, children, open_node
from gpuzarr.cli.screen import format_nbytes
from gpuzarr.cli.verify_found import First, Verdict
from gpuzarr.cli.verify_keys import ChunkKeys, list_array, list_group
from gpuzarr.cli.verify_reads import Reader, consecutive, find_stored
from gpuzarr.cli.verify_shards import check_shard
from gpuzarr.errors import ChunkFailure, GpuzarrError, UnsupportedError
from gpuzarr.group import Group
from gpuzarr.plan.grid import grid_axes
from gpuzarr.plan.shard_index import leaf_grid

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from gpuzarr.cli.screen import Screen
    from gpuzarr.source import ArraySource

    Coords = tuple[int, ...]

HELP = "decode every chunk and name the bad ones"

PROBLEMS = 1

READ_NBYTES = 1 << 26
"""About how much is decoded by one read."""

AT_ONCE = 1 << 13
"""Stored chunks that are looked at together..."""
SHARDS_AT_ONCE = 1 << 6
"""... and shards, whose indexes should fit into an array's cache of them."""

MOST_ELEMENTS = 2**63 - 1
"""Along one dimension."""

NAMED = 100
"""Bad chunks and notes of a node that are named, by default; all are counted."""

T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A node."""
    add_node_arguments(parser)
    parser.add_argument(
        "--strict", action="store_true", help="stray keys are problems too (exit status 1)"
    )
    parser.add_argument(
        "--most",
        metavar="N",
        type=int,
        default=NAMED,
        help="name at most N bad chunks and stray keys of a node; all are counted (%(default)s)",
    )


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Decode everything below the node; exit status 1 when something is bad."""
    node = open_node(args)
    verdicts: list[Verdict] = []
    interrupted = False
    try:
        for verdict in verify(node, args, screen, verdicts.append):
            _print_verdict(verdict, screen)
    except KeyboardInterrupt:
        interrupted = True
        screen.error("interrupted")
        if verdicts and not verdicts[-1].complete:
            _print_verdict(verdicts[-1], screen)
    bad = sum(not verdict.ok for verdict in verdicts)
    notes = sum(verdict.notes.count for verdict in verdicts)
    ok = not bad and not (args.strict and notes > 0)
    _print_summary(verdicts, screen, interrupted=interrupted)
    screen.document(
        {
            "ok": ok and not interrupted,
            "interrupted": interrupted,
            "nchunks": sum(verdict.nchunks for verdict in verdicts),
            "stored": sum(verdict.stored for verdict in verdicts),
            "missing": sum(verdict.missing for verdict in verdicts),
            "bad_chunks": sum(verdict.failures.count for verdict in verdicts),
            "stray_keys": notes,
            "nodes": [
                verdict.to_dict()
                for verdict in verdicts
                if verdict.kind != "group" or verdict.notes.count or verdict.errors
            ],
        }
    )
    if interrupted:
        return INTERRUPTED
    return 0 if ok else PROBLEMS


def verify(
    node: Array | Group,
    args: argparse.Namespace,
    screen: Screen,
    begin: Callable[[Verdict], None],
) -> Iterator[Verdict]:
    """Verify a node and all below it, in order.

    Args:
        node: the node.
        args: the command's.
        screen: where progress is shown.
        begin: is given each verdict before the work on it begins.
    """
    waiting: list[tuple[str, Array | Group | GpuzarrError]] = [(node.path, node)]
    while waiting:
        path, member = waiting.pop()
        kind = {Array: "array", Group: "group"}.get(type(member), "node")
        verdict = Verdict.of(path, kind, max(args.most, 0))
        begin(verdict)
        if isinstance(member, Array):
            verify_array(member, verdict, screen)
        elif isinstance(member, Group):
            waiting += reversed(
                _verify_group(member, verdict, consolidated=args.consolidated is not False)
            )
        else:
            verdict.errors.append(member)
        verdict.complete = True
        yield verdict


def verify_array(array: Array, verdict: Verdict, screen: Screen) -> None:
    """Find what is stored, and read it, some objects at a time."""
    verdict.nchunks, verdict.nbytes = array.nchunks, array.nbytes
    source: ArraySource | None = None
    whole = with_whole_chunks(array)
    try:
        source = whole._prepare(whole._snapshot)  # noqa: SLF001  the one that is read
        if source.codecs.shard is not None:
            # With shards in shards, `Array.nchunks` counts the inner shards.
            leaves = leaf_grid(source.codecs.shard, array.shape)
            verdict.nchunks = prod(axis.nchunks for axis in leaves)
    except GpuzarrError as error:
        verdict.errors.append(error)
    batches = _stored_objects(array, verdict, source)
    with screen.progress(verdict.path or "/", verdict.nchunks) as advance:
        try:
            if source is None:
                for _ in batches:  # for its notes
                    pass
                return
            _read_all(whole, source, batches, verdict, advance, array.shape)
            verdict.missing = max(0, verdict.nchunks - verdict.stored)
        except GpuzarrError as error:
            # The same will happen to every other chunk (an unsupported codec, no permission).
            verdict.errors.append(error)


def with_whole_chunks(array: Array) -> Array:
    """The array as if it reached to the ends of its last chunks.

    So what they hold beyond its edges is decoded, too.
    """
    shape = []
    for axis in grid_axes(array.metadata.chunk_grid, array.shape):
        last = np.array([max(axis.nchunks - 1, 0)], np.int64)
        end = int(axis.start_of(last)[0]) + int(axis.size_of(last)[0]) if axis.nchunks else 0
        shape.append(end if end <= MOST_ELEMENTS else axis.length)
    metadata = replace(array.metadata, shape=tuple(shape))
    return Array(array.store, array.path, metadata, array._options)  # noqa: SLF001


def _read_all(  # noqa: PLR0913, PLR0917  all that is known of the array
    array: Array,
    source: ArraySource,
    batches: Iterable[list[Coords]],
    verdict: Verdict,
    advance: Callable[[int], None],
    shape: Coords,
) -> None:
    """Read all chunks, and then look at the indexes of shards, which are known by then.

    Args:
        array: the array with whole chunks.
        source: the same, prepared.
        batches: the objects that are stored, or may be.
        verdict: what is found goes there.
        advance: is told how many chunks were dealt with.
        shape: of the array itself.
    """
    layout = source.codecs.shard
    failed: set[Coords] = set()
    done = 0

    def fail(failure: ChunkFailure) -> None:
        verdict.failures.add(failure)
        failed.add(failure.coords)

    def progress(chunks: int) -> None:
        nonlocal done
        done += chunks
        advance(chunks)

    most = READ_NBYTES // max(array.dtype.itemsize, 1)
    reader = Reader(array, source, most, fail, progress)
    for batch in batches:
        sizes: Mapping[Coords, int | None] = dict.fromkeys(batch)
        if layout is not None or not verdict.listed:
            sizes = find_stored(source, batch)
        failed.clear()
        reader.read_objects(list(sizes))
        if layout is None:
            verdict.stored += len(sizes)
            continue
        for coords, size in sizes.items():
            report = check_shard(source, shape, coords, size or 0)
            verdict.stored += report.stored
            verdict.shared += report.shared
            verdict.unused_nbytes += report.unused_nbytes
            for failure in report.failures:
                if failure.coords not in failed:
                    verdict.failures.add(failure)
    advance(max(0, verdict.nchunks - done))


def _stored_objects(
    array: Array, verdict: Verdict, source: ArraySource | None
) -> Iterator[list[Coords]]:
    """The objects that are listed, some at a time; all that there may be where none can be."""
    counts = tuple(axis.nchunks for axis in grid_axes(array.metadata.chunk_grid, array.shape))
    keys = ChunkKeys(array.metadata.chunk_key_encoding, counts)
    at_once = AT_ONCE if source is None or source.codecs.shard is None else SHARDS_AT_ONCE
    listing = list_array(array.store, array.path, keys, array.zarr_format, verdict.notes.add)
    try:
        while batch := list(islice(listing, at_once)):
            yield batch
    except UnsupportedError:
        verdict.listed = False
        if source is not None:
            yield from consecutive(counts, at_once)


def _verify_group(
    group: Group, verdict: Verdict, *, consolidated: bool
) -> list[tuple[str, Array | Group | GpuzarrError]]:
    """Look into the group's own folder; gives its members."""
    members = children(verdict.path, group)
    names = {path.rpartition("/")[2] for path, _ in members if path != verdict.path}
    try:
        list_group(
            group.store,
            group.path,
            names,
            group.zarr_format,
            verdict.notes.add,
            consolidated=consolidated and group.metadata.consolidated is not None,
        )
    except UnsupportedError:
        verdict.listed = False
    except GpuzarrError as error:
        verdict.errors.append(error)
    return members


def _print_verdict(verdict: Verdict, screen: Screen) -> None:
    """One line for a node, and one for each thing found."""
    name = f"/{verdict.path}"
    what = [f"{verdict.nchunks} chunks, {format_nbytes(verdict.nbytes)}"]
    if verdict.missing:
        what.append(f"{verdict.missing} not stored")
    if verdict.shared:
        what.append(f"{verdict.shared} with the bytes of another")
    if verdict.unused_nbytes:
        what.append(f"{format_nbytes(verdict.unused_nbytes)} in shards unused")
    if not verdict.ok:
        what[0] = f"{verdict.failures.count} of {verdict.nchunks} chunks"
        screen.text(f"bad  {name}: {', '.join(what)}", "red")
    elif not verdict.complete:
        screen.text(f"part {name}: {verdict.stored} of {what[0]}", "yellow")
    elif verdict.kind == "array":
        screen.text(f"ok   {name}: {', '.join(what)}", "green")
    if verdict.kind == "array" and not verdict.listed:
        screen.text(
            f"     {name}: this store cannot list, so each chunk was asked for, and stray keys"
            " were not looked for",
            "yellow",
        )
    _print_some(verdict.failures, str, screen, "red")
    for error in verdict.errors:
        screen.text(f"     {' '.join(str(error).split())}", "red")
    if verdict.notes.count:
        screen.text(f"note {name}: {_stray_keys(verdict.notes.count)}", "yellow")
        _print_some(verdict.notes, lambda stray: f"{stray.key}: {stray.reason}", screen, "yellow")


def _print_some(some: First[T], text: Callable[[T], str], screen: Screen, style: str) -> None:
    named = some.named
    for thing in named:
        screen.text(f"     {' '.join(text(thing).split())}", style)
    if some.count > len(named):
        screen.text(f"     and {some.count - len(named)} more", style)


def _print_summary(verdicts: list[Verdict], screen: Screen, *, interrupted: bool) -> None:
    nchunks = sum(verdict.nchunks for verdict in verdicts)
    stored = sum(verdict.stored for verdict in verdicts)
    failures = sum(verdict.failures.count for verdict in verdicts)
    notes = sum(verdict.notes.count for verdict in verdicts)
    arrays = sum(verdict.kind == "array" for verdict in verdicts)
    bad = sum(not verdict.ok for verdict in verdicts)
    if interrupted:
        screen.text("this is what was found so far", "bold yellow")
    if bad:
        text = f"{bad} bad nodes, {failures} bad chunks of {nchunks} in {arrays} arrays"
        screen.text(text, "bold red")
    else:
        text = f"{nchunks} chunks in {arrays} arrays"
        if interrupted:
            text = f"{stored} of {text} were read"
        elif stored < nchunks:
            text += f", {stored} of them stored"
        screen.text(f"{text}: all can be decoded", "green")
    if notes:
        screen.text(f"{_stray_keys(notes)}, which nothing reads", "yellow")


def _stray_keys(count: int) -> str:
    return "1 stray key" if count == 1 else f"{count} stray keys"
