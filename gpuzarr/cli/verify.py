"""Decode every chunk of every array, and name those that cannot be decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from gpuzarr.array import Array
from gpuzarr.cli.node import add_node_arguments, open_node, walk
from gpuzarr.cli.regions import split_array
from gpuzarr.cli.screen import error_document, format_nbytes
from gpuzarr.errors import ChunkError, ChunkFailure, GpuzarrError
from gpuzarr.group import Group

if TYPE_CHECKING:
    import argparse

    from gpuzarr.cli.screen import Screen

HELP = "decode every chunk and name the bad ones"

PROBLEMS = 1

READ_NBYTES = 64 * 2**20
"""About how much is decoded by one read."""


@dataclass(slots=True)
class Verdict:
    """What was found about one node."""

    path: str
    kind: str
    """"array", or "node" where that could not be told."""
    nchunks: int = 0
    nbytes: int = 0
    """Bytes of the decoded array."""
    failures: list[ChunkFailure] = field(default_factory=list)
    """Chunks that did not become data."""
    errors: list[GpuzarrError] = field(default_factory=list)
    """What kept the node, or a part of it, from being read at all."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.failures and not self.errors

    def to_dict(self) -> dict[str, object]:
        """As JSON values."""
        return {
            "path": self.path,
            "kind": self.kind,
            "ok": self.ok,
            "nchunks": self.nchunks,
            "nbytes": self.nbytes,
            "failures": error_document(ChunkError("", failures=tuple(self.failures)))["failures"],
            "errors": [error_document(error) for error in self.errors],
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A node."""
    add_node_arguments(parser)


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Decode everything below the node; exit status 1 when something is bad."""
    node = open_node(args)
    verdicts = []
    for path, member in walk(node, node.path):
        if isinstance(member, Group):
            continue
        if isinstance(member, Array):
            verdict = verify_array(member, path, screen)
        else:
            verdict = Verdict(path, "node", errors=[member])
        _print_verdict(verdict, screen)
        verdicts.append(verdict)
    bad = [verdict for verdict in verdicts if not verdict.ok]
    nchunks = sum(verdict.nchunks for verdict in verdicts)
    failures = sum(len(verdict.failures) for verdict in verdicts)
    arrays = sum(verdict.kind == "array" for verdict in verdicts)
    if bad:
        screen.text(
            f"{len(bad)} bad nodes, {failures} bad chunks of {nchunks} in {arrays} arrays",
            "bold red",
        )
    else:
        screen.text(f"{nchunks} chunks in {arrays} arrays: all can be decoded", "green")
    screen.document(
        {
            "ok": not bad,
            "nchunks": nchunks,
            "bad_chunks": failures,
            "nodes": [verdict.to_dict() for verdict in verdicts],
        }
    )
    return PROBLEMS if bad else 0


def verify_array(array: Array, path: str, screen: Screen) -> Verdict:
    """Read the array box by box; one read reports all of its bad chunks at once."""
    verdict = Verdict(path, "array", array.nchunks, array.nbytes)
    most = max(READ_NBYTES // max(array.dtype.itemsize, 1), 1)
    with screen.progress(verdict.path or "/", array.size) as advance:
        for box in split_array(array.shape, array.chunks, most):
            try:
                array.read(box)
            except ChunkError as error:
                # In the order of the grid, not in that in which threads met them.
                verdict.failures += sorted(error.failures, key=lambda failure: failure.coords)
                if not error.failures:
                    verdict.errors.append(error)
            except GpuzarrError as error:
                # The same will happen to every other chunk (an unsupported codec, no permission).
                verdict.errors.append(error)
                break
            advance(prod(part.stop - part.start for part in box))
    return verdict


def _print_verdict(verdict: Verdict, screen: Screen) -> None:
    """One line for a node, and one for each thing found."""
    if verdict.ok:
        size = f"{verdict.nchunks} chunks, {format_nbytes(verdict.nbytes)}"
        screen.text(f"ok   /{verdict.path}: {size}", "green")
        return
    screen.text(f"bad  /{verdict.path}: {verdict.nchunks} chunks", "red")
    for failure in verdict.failures:
        screen.text(f"     {' '.join(str(failure).split())}", "red")
    for error in verdict.errors:
        screen.text(f"     {' '.join(str(error).split())}", "red")
