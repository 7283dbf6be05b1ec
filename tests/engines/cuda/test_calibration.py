"""Rates that are measured, kept and found again; files that are not as they should be."""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.engines.choose import forget_engines
from gpuzarr.engines.cpu.engine import decoder_for
from gpuzarr.engines.cuda import engine, measuring
from gpuzarr.engines.cuda.calibration import (
    Machine,
    cache_folder,
    document_of,
    file_of,
    load,
    machine_of,
    rates_of,
    save,
)
from gpuzarr.engines.cuda.measuring import measure
from gpuzarr.engines.cuda.tuning import CODECS, DEFAULTS
from gpuzarr.errors import DeviceError
from tests.arrays import plain_store
from tests.cli.conftest import gpuzarr, gpuzarr_json
from tests.cuda_devices import DEVICE_WINS, HOST_WINS, assert_same, fake
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import ARRAY, ZSTD, opened, zstd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["fake", "gpuzarr", "gpuzarr_json"]  # fixtures

MACHINE = Machine("a GPU", "nvCOMP 6.0.0", 4)
RATES = replace(DEFAULTS, upload=12e9, further_core=0.75)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rates are kept."""
    monkeypatch.setenv("GPUZARR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_kept_is_found(folder: Path) -> None:
    assert load(MACHINE) is None
    path = save(MACHINE, RATES)
    assert path.parent == folder
    assert load(MACHINE) == replace(RATES, codecs=dict(RATES.codecs))
    assert [each.name for each in folder.iterdir()] == [path.name]
    others = [replace(MACHINE, cores=5), replace(MACHINE, gpu="b"), replace(MACHINE, nvcomp="")]
    for other in others:
        assert load(other) is None
        assert file_of(other) != path


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("GPUZARR_CACHE_DIR")
    assert cache_folder() == tmp_path / "xdg" / "gpuzarr"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder() == tmp_path / ".cache" / "gpuzarr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "gpuzarr"

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
    assert load(MACHINE) is None
    with pytest.raises(FileNotFoundError, match="GPUZARR_CACHE_DIR"):
        save(MACHINE, RATES)


def changed(**changes: Any) -> bytes:
    """A file that was sound before."""
    document = {"format": 2, "machine": asdict(MACHINE), "rates": document_of(RATES)}
    return json.dumps(document | changes).encode()


def with_upload(value: Any) -> bytes:
    return changed(rates=document_of(RATES) | {"upload": value})


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe{", "codec can't decode|Expecting"),
        (changed()[:-9], "Expecting|delimiter"),
        (b"[1, 2]", "indices"),
        (b"[" * 60_000, "recursion"),
        (changed() + b" " * (1 << 16), "too large"),
        (changed(format=1), "format is 1"),
        (changed(machine=asdict(replace(MACHINE, cores=3))), "another machine"),
        (changed(rates={}), "codecs"),
        (changed(rates=document_of(RATES) | {"codecs": {"zstd": {}}}), "host"),
        (with_upload("fast"), "could not convert"),
        (with_upload(None), "NoneType|None"),
        (with_upload(float("nan")), "upload is nan"),
        (with_upload(float("inf")), "upload is inf"),
        (with_upload(0), "upload is 0"),
        (with_upload(-1e9), "upload is -"),
        (with_upload(10**400), "large"),
    ],
)
def test_files_that_cannot_be_used(
    folder: Path, caplog: pytest.LogCaptureFixture, data: bytes, why: str
) -> None:
    path = file_of(MACHINE)
    assert path is not None
    folder.mkdir()
    path.write_bytes(data)
    assert load(MACHINE) is None
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage()
    assert re.search(why, record.getMessage(), re.IGNORECASE)


def test_a_folder_in_the_place_of_a_file(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = file_of(MACHINE)
    assert path is not None
    (folder / path.name).mkdir(parents=True)
    assert load(MACHINE) is None
    assert "cannot be read" in caplog.text


def test_a_file_is_replaced_as_a_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(MACHINE, DEFAULTS)

    def fail(*_: object) -> None:
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no space"):
            save(MACHINE, RATES)
    assert load(MACHINE) == replace(DEFAULTS, codecs=dict(DEFAULTS.codecs))
    assert list(folder.iterdir()) == [path]


# ------------------------------------------------------------------------------------- measuring


def test_measuring_on_the_fake_device() -> None:
    device = FakeDevice()
    found = measure(device, decoder_for, 1 << 18)
    assert device.used == 0
    assert set(found.codecs) == set(CODECS)
    for rates in found.codecs.values():
        assert 1e6 < rates.host < 1e12
        assert rates.stream > 0
        assert rates.device > 0
    for name in ("filters", "upload", "read"):
        assert 1e6 < getattr(found, name) < 1e15
    assert 0.05 <= found.further_core <= 1.0
    assert (found.chunk_s, found.batch_s) == (DEFAULTS.chunk_s, DEFAULTS.batch_s)
    save(MACHINE, found)
    assert load(MACHINE) == found


def test_a_device_that_does_not_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(data: bytes) -> bytes:
        encoded = bytearray(zstd(data))
        encoded[len(encoded) // 2 :: 2] = bytes(len(encoded[len(encoded) // 2 :: 2]))
        return bytes(encoded)

    monkeypatch.setattr(measuring, "_host_rate", lambda *_: 1e9)
    for encode, why in ((damaged, "does not decode zstd"), (lambda _: b"", "cannot be given zstd")):
        monkeypatch.setitem(measuring.ENCODERS, "zstd", encode)
        with pytest.raises(DeviceError, match=f"cuda:0 {why}"):
            measure(FakeDevice(), decoder_for, 1 << 14)


def test_the_command(
    fake: FakeDevice, folder: Path, gpuzarr_json: Callable[..., tuple[int, Any]]
) -> None:
    fake.free = 1 << 24
    status, found = gpuzarr_json("calibrate")
    assert status == 0
    assert Path(found["path"]).parent == folder
    kept = load(machine_of(fake))
    assert kept is not None
    assert found["rates"] == document_of(kept)


# --------------------------------------------------------------------------------------- reading


def test_engines_take_what_was_measured_and_measure_nothing(
    fake: FakeDevice, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "rates_of", rates_of)
    store = plain_store(ARRAY, (10, 10), encode=zstd, codecs=("bytes", ZSTD))
    forget_engines()
    assert_same(ARRAY, opened(store)[...])
    assert not folder.exists()
    for rates, decompresses in ((HOST_WINS, False), (DEVICE_WINS, True), (HOST_WINS, False)):
        save(machine_of(fake), replace(rates, batch_s=1e-6, columns_s=1e-6, chunk_s=1e-6))
        forget_engines()
        fake.counts.clear()
        assert_same(ARRAY, opened(store)[...])
        assert bool(fake.counts["decompress"]) == decompresses
