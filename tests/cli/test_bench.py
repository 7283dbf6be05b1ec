"""`gpuzarr bench`: every way is timed, and they must agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

import gpuzarr as library
from gpuzarr.cli import bench
from gpuzarr.cli.bench import Operation, Way, measure, random_windows
from gpuzarr.cli.recorded import RecordedStore, fetch_again
from tests.arrays import plain_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]


def test_every_way_is_timed(gpuzarr_json: RunJson, arrays: dict[str, DemoArray]) -> None:
    array = arrays["cells-v3"]
    status, found = gpuzarr_json("bench", array.path, "--rounds", 2, "--windows", 3)
    assert status == 0
    assert found["ok"]
    peer = f"zarr-python {zarr.__version__}"
    ways = [(read["read"], read["way"]) for read in found["reads"]]
    windows = "3 windows of 48 x 64 x 64"
    assert ways == [
        ("everything", "bytes alone"),
        ("everything", "gpuzarr cpu"),
        ("everything", peer),
        (windows, "gpuzarr cpu"),
        (windows, peer),
        (f"{windows}, in one call", "gpuzarr cpu"),
    ]
    assert all(len(read["seconds"]) == 2 and read["ok"] for read in found["reads"])
    assert found["reads"][0]["nbytes"] == array.values.nbytes
    assert [text.partition(":")[0] for text in found["skipped"]] == ["not read into cuda"]


def test_for_people(gpuzarr: Run, arrays: dict[str, DemoArray]) -> None:
    status, out, err = gpuzarr("bench", arrays["weather-v3"].path, "--rounds", 1)
    assert (status, err) == (0, "")
    assert "everything" in out
    assert "64 windows of 1 x 36 x 64" in out
    assert out.count(" ok") == 5


def test_a_selection_alone(gpuzarr_json: RunJson, arrays: dict[str, DemoArray]) -> None:
    path = arrays["cells-v3"].path
    status, found = gpuzarr_json("bench", path, "--select", "0:4, 3", "--rounds", 1)
    assert status == 0
    assert {read["read"] for read in found["reads"]} == {"[0:4, 3]"}


def test_of_a_large_array_the_beginning(
    gpuzarr_json: RunJson, arrays: dict[str, DemoArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpuzarr.cli.demo.LARGEST_NBYTES", 2 * 36 * 72 * 4)
    status, found = gpuzarr_json("bench", arrays["weather-v3"].path, "--rounds", 1)
    assert status == 0
    assert found["reads"][0]["read"] == "[0:2, 0:36, 0:72]"


def test_a_node_of_a_group(gpuzarr_json: RunJson, group: Path) -> None:
    status, found = gpuzarr_json("bench", group, "--path", "cells", "--rounds", 1)
    assert (status, found["ok"]) == (0, True)


def test_damage_is_an_error(gpuzarr: Run, group: Path) -> None:
    status, _, err = gpuzarr("bench", group / "inside" / "bad")
    assert status == 2
    assert "c/1/0/0" in err


def test_what_zarr_python_cannot_read(
    gpuzarr: Run, arrays: dict[str, DemoArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no such codec")

    monkeypatch.setattr(zarr, "open_array", refuse)
    status, out, _ = gpuzarr("bench", arrays["weather-v3"].path, "--rounds", 1)
    assert status == 0
    assert f"zarr-python {zarr.__version__} failed: ValueError: no such codec" in out


def test_values_that_differ_are_found() -> None:
    truth = np.arange(6.0)
    ways = [
        Way("first", lambda: [truth]),
        Way("other order", lambda: [truth.astype(">f8")]),
        Way("wrong", lambda: [truth + 1]),
        Way("short", lambda: [truth[:5]]),
        Way("broken", lambda: 1 / 0),  # type: ignore[arg-type,return-value]
        Way("not checked", lambda: [np.zeros(1)], checked=False),
    ]
    measure(Operation("everything", truth.nbytes, ways), 2, lambda _: None)
    assert [way.right for way in ways] == [True, True, False, False, True, True]
    assert [len(way.seconds) for way in ways] == [2, 2, 2, 2, 0, 2]
    assert ways[4].failed == "ZeroDivisionError: division by zero"


def test_wrong_values_are_told(
    gpuzarr: Run, arrays: dict[str, DemoArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        bench, "peers", lambda _, keys: [Way("peer", lambda: [np.zeros(3) for _ in keys])]
    )
    status, out, _ = gpuzarr("bench", arrays["weather-v3"].path, "--rounds", 1)
    assert status == 1
    assert "not the same values: peer" in out


def test_windows() -> None:
    store = plain_store(np.zeros((5, 100, 200, 3), "i2"), (1, 50, 50, 3))
    array = library.open_array(store, device="cpu")
    windows = random_windows(array, 50)
    assert windows == random_windows(array, 50)
    assert windows is not None
    for window in windows:
        assert [part.stop - part.start for part in window] == [1, 64, 64, 3]
        assert all(
            part.start >= 0 and part.stop <= length
            for part, length in zip(window, array.shape, strict=True)
        )
    assert len({window[1].start for window in windows}) > 10
    for shape in [(), (3, 4), (0, 500)]:
        none = library.open_array(plain_store(np.zeros(shape), (7,) * len(shape)), device="cpu")
        assert random_windows(none, 3) is None


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_bytes_alone_are_those_of_the_read(threads: int) -> None:
    store = plain_store(np.arange(1000), (100,))
    recorded = RecordedStore.of(store)
    array = library.open_array(recorded, device="cpu", zarr_format=3)
    recorded.requests.clear()
    array.read(slice(150, 350))
    assert sorted(key for key, _, _ in recorded.requests) == ["c/1", "c/2", "c/3"]
    stored = sum(len(store[key]) for key in ("c/1", "c/2", "c/3"))
    fetched = fetch_again(recorded, threads)()
    assert len(fetched) == threads
    assert sum(fetched) == stored


def test_arguments(gpuzarr: Run, arrays: dict[str, DemoArray]) -> None:
    with pytest.raises(SystemExit):
        gpuzarr("bench", arrays["weather-v3"].path, "--rounds", "0")
