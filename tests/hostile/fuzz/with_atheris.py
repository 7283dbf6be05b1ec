"""`python -m tests.hostile.fuzz.with_atheris TARGET FOLDER [FLAGS]`: the same, by libFuzzer.

For long runs where the package atheris is installed: it sees every branch of gpuzarr's Python code
and every comparison, and keeps its inputs in the folder, which the target's seeds are put into
first. It ends with the first finding, whose input it writes to a file. Flags are libFuzzer's.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

OWN_ARGUMENTS = 3


def main(arguments: list[str]) -> None:
    """Hand a target's check to libFuzzer, which does not come back."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["gpuzarr"]):
        targets: Any = importlib.import_module("tests.hostile.fuzz.targets")
    watch: Any = importlib.import_module("tests.hostile.fuzz.watch")
    target, folder = targets.TARGETS[arguments[1]], Path(arguments[2])
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (folder / f"seed-{number}").write_bytes(seed)

    def check(data: bytes) -> None:
        result = watch.check_one(target, data)
        if isinstance(result, watch.Finding):
            raise AssertionError(result.text)  # noqa: TRY004  it is a value

    longest = f"-max_len={target.longest}"
    flags = [arguments[0], str(folder), longest, *arguments[OWN_ARGUMENTS:]]
    atheris.Setup(flags, check)
    with target.around():
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
