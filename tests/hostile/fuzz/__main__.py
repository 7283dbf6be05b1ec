"""`python -m tests.hostile.fuzz [TARGET ...] --seconds N --processes P`: the long run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.hostile.fuzz.campaign import Campaign
from tests.hostile.fuzz.targets import TARGETS


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; the exit status is 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default all"
    )
    parser.add_argument("--seconds", type=float, default=600, help="for all targets together")
    parser.add_argument("--processes", type=int, default=1, help="at once")
    parser.add_argument("--seed", type=int, default=0, help="another one makes other inputs")
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz-out"), help="folder for findings and reached inputs"
    )
    parser.add_argument("--record", type=Path, help="write the counts here, as JSON")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    campaign = Campaign(
        chosen.targets or list(TARGETS),
        seconds=chosen.seconds,
        processes=chosen.processes,
        seed=chosen.seed,
        out=chosen.out,
    )
    is_clean = campaign.run()
    print(campaign.table())  # noqa: T201
    if chosen.record is not None:
        chosen.record.write_text(campaign.record() + "\n")
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
