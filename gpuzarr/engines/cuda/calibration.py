"""Rates that were measured on a machine, kept in the user's cache folder.

    $GPUZARR_CACHE_DIR, else $XDG_CACHE_HOME/gpuzarr, else ~/.cache/gpuzarr
        calibration-<hash of GPU, nvCOMP and cores>.json

`gpuzarr calibrate` writes such a file; engines read it when they are made, and nothing is measured
while data are read. A file that is damaged, or of another machine, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuzarr.engines.cuda.tuning import CODECS, DEFAULTS, CodecRates, Rates
from gpuzarr.engines.pool import cpu_count

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.device import Device

log = logging.getLogger("gpuzarr.engine")

FORMAT = 2
"""Of the files; others are ignored."""
MOST_NBYTES = 1 << 16
"""Larger files are ignored."""
LEAST, MOST = 1e-9, 1e15
"""Between these lies every number of a file."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What rates depend on."""

    gpu: str
    """What it is sold as."""
    nvcomp: str
    """Name and version."""
    cores: int
    """CPUs that the process may use."""


def machine_of(device: Device) -> Machine:
    """This machine, with one of its GPUs."""
    return Machine(device.product, device.decompressor.version, cpu_count())


def rates_of(device: Device) -> Rates:
    """What was measured with a GPU, or the defaults."""
    return load(machine_of(device)) or DEFAULTS


def cache_folder() -> Path | None:
    """The user's folder for what can be made again; None where there is no home."""
    own = os.environ.get("GPUZARR_CACHE_DIR")
    if own:
        return Path(own)
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # others are to be ignored, its specification says
        return shared / "gpuzarr"
    try:
        return Path.home() / ".cache" / "gpuzarr"
    except RuntimeError:
        return None


def file_of(machine: Machine) -> Path | None:
    """Where a machine's rates are kept; None where there is no place for them."""
    folder = cache_folder()
    text = json.dumps(asdict(machine), sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return None if folder is None else folder / f"calibration-{name}.json"


def load(machine: Machine) -> Rates | None:
    """What was measured on a machine; None where nothing was, or its file cannot be used."""
    path = file_of(machine)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            data = file.read(MOST_NBYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("calibration: %s cannot be read, and defaults are used: %s", path, error)
        return None
    try:
        return _parse(data, machine)
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        log.warning("calibration: %s is ignored, and defaults are used: %s", path, error)
        return None


def save(machine: Machine, rates: Rates) -> Path:
    """Keep what was measured on a machine; gives where.

    Raises:
        OSError: it cannot be written.
    """
    path = file_of(machine)
    if path is None:
        raise FileNotFoundError("there is no home folder; set GPUZARR_CACHE_DIR")
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {"format": FORMAT, "machine": asdict(machine), "rates": document_of(rates)}, indent=1
    )
    descriptor, partial = tempfile.mkstemp(prefix=f"{path.stem}-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  it is a number
            file.write(text)
        os.replace(partial, path)  # noqa: PTH105  a reader sees the old file or the new one
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    return path


def document_of(rates: Rates) -> dict[str, Any]:
    """Rates as JSON has them."""
    numbers = {each.name: getattr(rates, each.name) for each in fields(rates)}
    return numbers | {"codecs": {name: asdict(each) for name, each in rates.codecs.items()}}


def _parse(data: bytes, machine: Machine) -> Rates:
    """The rates of a file.

    Raises:
        ValueError: or another error of what is not as it should be.
    """
    if len(data) > MOST_NBYTES:
        raise ValueError("it is too large")
    document = json.loads(data)
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']!r}, not {FORMAT}")
    if document["machine"] != asdict(machine):
        raise ValueError("it is of another machine")
    found = document["rates"]
    codecs = {name: CodecRates(**_numbers(CodecRates, found["codecs"][name])) for name in CODECS}
    return Rates(codecs=codecs, **_numbers(Rates, found))


def _numbers(record: type[Rates | CodecRates], found: dict[str, Any]) -> dict[str, float]:
    """The numbers among a record's fields."""
    names = [each.name for each in fields(record) if each.name != "codecs"]
    numbers = {name: float(found[name]) for name in names}
    for name, number in numbers.items():
        if not (math.isfinite(number) and LEAST <= number <= MOST):
            raise ValueError(f"{name} is {number}")
    return numbers
