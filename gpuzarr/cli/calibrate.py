"""Measure how fast CPU and GPU of this machine decode, so that reads choose well between them.

Takes a few seconds. What was measured is kept in the cache folder, for this GPU, this nvCOMP and
this number of CPUs: $GPUZARR_CACHE_DIR, else $XDG_CACHE_HOME/gpuzarr, else ~/.cache/gpuzarr.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpuzarr.engines.choose import forget_engines
from gpuzarr.engines.cpu.engine import decoder_for
from gpuzarr.engines.cuda import availability
from gpuzarr.engines.cuda.calibration import document_of, machine_of, save

if TYPE_CHECKING:
    import argparse

    from gpuzarr.cli.screen import Screen

HELP = "measure this machine, for decode=auto"
GB, MB = 1e9, 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which GPU."""
    parser.add_argument("--gpu", type=int, metavar="N", help="its number (the current one)")


def run(args: argparse.Namespace, screen: Screen) -> int:
    """Measure, keep and print."""
    from gpuzarr.engines.cuda.measuring import measure  # noqa: PLC0415  imports what encodes

    device = availability.open_device(args.gpu)
    rates, machine = measure(device, decoder_for), machine_of(device)
    path = save(machine, rates)
    forget_engines()  # they know older rates
    screen.table(
        ["", "host, GB/s a core", "GPU, MB/s a stream", "GPU, GB/s"],
        [
            (name, f"{each.host / GB:.2f}", f"{each.stream / MB:.0f}", f"{each.device / GB:.1f}")
            for name, each in rates.codecs.items()
        ],
    )
    screen.text()
    screen.pairs(
        [
            ("machine", f"{machine.gpu}, {machine.nvcomp}, {machine.cores} CPUs"),
            ("uploads", f"{rates.upload / GB:.1f} GB/s"),
            ("kept in", str(path)),
        ]
    )
    screen.document({"path": str(path), "rates": document_of(rates)})
    return 0
