"""`gpuzarr doctor` says what is there on any machine, and survives all of them."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from gpuzarr.cli import doctor
from gpuzarr.stores.uring import rings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]


REMEDIES = {
    "obstore": 'pip install "gpuzarr[remote]"',
    "pyarrow": 'pip install "gpuzarr[references]"',
    "fsspec": "pip install fsspec",
    "zarr": 'pip install "gpuzarr[zarr]"',
}


def test_this_machine(gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    status, out, _ = gpuzarr("doctor")
    assert "numcodecs" in out
    again, found = gpuzarr_json("doctor")
    assert status == again
    states = {each["name"]: each["state"] for each in found}
    assert states["numpy"] == states["zstandard"] == states["google-crc32c"] == "ok"
    assert {"CuPy", "nvCOMP", "kvikio", "GDS", "obstore", "pyarrow", "fsspec"} <= set(states)


def test_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for works, state in ((True, "ok"), (False, "not there")):
        monkeypatch.setattr(rings, "_works", works)
        states = {each.name: each.state for each in doctor.examine_python()}
        assert states["io_uring"] == state
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "io_uring" not in {each.name for each in doctor.examine_python()}


def test_nothing_of_the_gpu_is_loaded(gpuzarr: Run) -> None:
    before = set(sys.modules)
    gpuzarr("doctor")
    loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not loaded & {"cupy", "kvikio", "nvidia"}


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert [each.state for each in doctor.find_gpus()] == ["not there"]


def test_two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    line = "NVIDIA Example, 16384 MiB, 9.0, 550.1"
    monkeypatch.setattr(doctor, "try_command", lambda _: (0, f"{line}\n{line}"))
    found = doctor.find_gpus()
    assert [each.name for each in found] == ["GPU 0", "GPU 1"]
    assert "compute capability 9.0" in found[0].detail


def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, gpuzarr: Run) -> None:
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(doctor, "try_command", lambda _: (9, "has failed"))
    assert [each.state for each in doctor.find_gpus()] == ["problem"]
    status, out, _ = gpuzarr("doctor")
    assert status == 1
    assert "has failed" in out


def test_a_library_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> object:
        message = "invalid literal\nfor int(): 'post0'"
        raise ValueError(message) if name == "numcodecs" else ImportError(name)

    monkeypatch.setattr(doctor, "import_module", refuse)
    found = {each.name: each for each in doctor.examine_libraries()}
    assert found["numcodecs"].state == "problem"
    assert "ValueError: invalid literal for int(): 'post0'" in found["numcodecs"].detail


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        if name in {"deflate", *REMEDIES}:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", absent)
    found = {each.name: each for each in doctor.examine_libraries()}
    assert found["deflate"].state == "problem"
    assert found["deflate"].remedy == "pip install deflate"
    assert {found[name].state for name in REMEDIES} == {"missing"}
    assert {name: found[name].remedy for name in REMEDIES} == REMEDIES


def test_cuda_libraries_on_a_machine_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "first_installed", lambda _: "numpy")
    works = doctor.examine_module("CuPy", ["numpy"], "print('fine')", gpu=True)
    assert (works.state, works.detail.endswith(": fine")) == ("ok", True)
    fails = doctor.examine_module("CuPy", ["numpy"], "raise RuntimeError('no device')", gpu=True)
    assert (fails.state, fails.detail.endswith("RuntimeError: no device")) == ("problem", True)
    crashes = doctor.examine_module("CuPy", ["numpy"], "import os; os.abort()", gpu=True)
    assert crashes.state == "problem"
    assert doctor.examine_module("CuPy", ["numpy"], "print('fine')", gpu=False).state == "not there"
    # numpy holds no libnvcomp
    assert doctor.examine_nvcomp(gpu=True).state == "problem"


def test_cuda_libraries_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "first_installed", lambda _: None)
    assert "cuda13" in doctor.examine_nvcomp(gpu=True).remedy
    assert doctor.examine_nvcomp(gpu=False).remedy == ""


def test_a_program_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    status, text = doctor.try_command([sys.executable, "-c", "import time; time.sleep(60)"])
    assert status
    assert "timed out" in text
