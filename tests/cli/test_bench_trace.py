"""`gpuzarr bench --trace`: one read recorded, as a picture and as data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import gpuzarr as library
from gpuzarr.cli.timeline import LOOKS, draw_timeline
from gpuzarr.cli.traced import traced_read
from gpuzarr.engines.trace import Span
from tests.arrays import plain_store
from tests.cuda_devices import installed
from tests.engines.cuda.fake_device import FakeDevice
from tests.engines.cuda.stores import BLOSC, ZSTD, blosc, zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]

SVG = "{http://www.w3.org/2000/svg}"
VALUES = np.random.default_rng(0).integers(0, 99, (200, 300), np.int32)


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314  ours


def stored(values: np.ndarray[Any, Any] = VALUES, **choices: Any) -> dict[str, bytes]:
    return plain_store(values, (50, 60), encode=zstd, codecs=("bytes", ZSTD), **choices)


def test_a_picture(gpuzarr: Run, arrays: dict[str, DemoArray], tmp_path: Path) -> None:
    path, array = tmp_path / "trace.svg", arrays["cells-v3"]
    status, out, err = gpuzarr("bench", array.path, "--rounds", 1, "--trace", path)
    assert (status, err) == (0, "")
    assert f"wrote {path}" in "".join(out.split("\n"))
    svg = path.read_text()
    title, below, *others = texts(svg)
    assert title.startswith("cells-v3.zarr, everything: ")
    assert below.startswith("engine cpu; ")
    assert {"caller", "read", "decode"} <= set(others)
    assert any(text.startswith("0 ") for text in others), "the axis has a unit"
    colours = {look.colour for look in LOOKS.values()}
    bars = [bar for bar in ET.fromstring(svg).iter(f"{SVG}rect") if len(bar)]  # noqa: S314  ours
    assert {bar.get("fill") for bar in bars} <= colours
    width = float(ET.fromstring(svg).get("width", ""))  # noqa: S314  ours
    assert all(0 <= float(b.get("x", "")) <= width - float(b.get("width", "")) for b in bars)


def test_data_for_perfetto(
    gpuzarr_json: RunJson, arrays: dict[str, DemoArray], tmp_path: Path
) -> None:
    path, array = tmp_path / "trace.json", arrays["weather-v3"]
    status, found = gpuzarr_json(
        "bench", array.path, "--rounds", 1, "--select", "1:3", "--trace", path
    )
    assert (status, found["trace"]) == (0, str(path))
    document = json.loads(path.read_text())
    about = document["otherData"]
    assert about["nbytes"] == array.values[1:3].nbytes
    assert (about["engine"], about["device"]) == ("cpu", "cpu")
    assert "[1:3]" in about["title"]
    lanes = {e["tid"]: e["args"]["name"] for e in document["traceEvents"] if e["ph"] == "M"}
    events = [event for event in document["traceEvents"] if event["ph"] == "X"]
    assert "caller" in lanes.values()
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in events)
    assert {event["tid"] for event in events} <= set(lanes)
    reads = [event for event in events if event["cat"] == "read"]
    chunks = [file for time in "12" for file in (array.path / "c" / time).rglob("*")]
    sizes = [file.stat().st_size for file in chunks if file.is_file()]
    assert sum(event["args"]["nbytes"] for event in reads) == sum(sizes) > 0


def test_a_gpu_has_rows_of_its_own(gpuzarr: Run, tmp_path: Path) -> None:
    folder, path = tmp_path / "array.zarr", tmp_path / "trace.svg"
    for key, value in stored().items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(value)
    with installed(FakeDevice()):
        arguments = ("--device", "cuda", "--rounds", 1, "--windows", 1, "--trace", path)
        status, _, err = gpuzarr("bench", folder, *arguments)
    assert (status, err) == (0, "")
    _, below, *others = texts(path.read_text())
    assert below.startswith("engine cuda on cuda:0; ")
    rows = ["upload", "decompress", "kernels", "download"]
    assert [text for text in others if text in rows][:4] == rows
    assert "caller" in others


def test_other_files_are_refused(
    gpuzarr: Run, arrays: dict[str, DemoArray], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpuzarr("bench", arrays["weather-v3"].path, "--trace", "trace.png")
    assert "must end in .svg or .json" in capsys.readouterr().err


def test_nothing_to_read(gpuzarr: Run, arrays: dict[str, DemoArray], tmp_path: Path) -> None:
    path = tmp_path / "trace.svg"
    status, _, _ = gpuzarr(
        "bench", arrays["weather-v3"].path, "--rounds", 1, "--select", "3:3", "--trace", path
    )
    assert status == 0
    assert texts(path.read_text())[1] == "engine cpu; 0 B stored"


# ------------------------------------------------------------------------------- recorded reads


@pytest.mark.parametrize("key", [..., (slice(3, 90), 5), (7, 8)])
def test_a_recorded_read_gives_the_same(key: Any) -> None:
    for store in (
        stored(),
        plain_store(VALUES, (50, 60), encode=blosc(), codecs=("bytes", BLOSC)),
        stored(skip=lambda coords: coords == (0, 0)),
    ):
        array = library.open_array(store, device="cpu", threads=2)
        expected = array[key]
        read = traced_read(array, key)
        np.testing.assert_array_equal(read.result, expected)
        assert (read.engine, read.device) == ("cpu", "cpu")
        assert {span.kind for span in read.spans} >= {"host", "read"}
        assert read.seconds > 0


def test_what_the_cpu_does_is_told_by_thread() -> None:
    array = library.open_array(stored(), device="cpu")
    read = traced_read(array)
    spans = read.spans
    assert [span.number for span in spans] == list(range(len(spans)))
    assert {span.kind for span in spans} == {"host", "read", "decode"}
    assert read.stored_nbytes == sum(
        len(value) for key, value in stored().items() if key.startswith("c/")
    )
    for span in spans:
        if span.kind == "decode":
            inside = [s for s in spans if s.kind == "read" and s.lane == span.lane]
            assert all(s.stop <= span.start or s.start >= span.stop for s in inside)
    names = {span.name for span in spans if span.kind == "host"}
    assert names == {"fetch", "decode", "finish"}


def test_a_recorded_read_that_fails_says_so() -> None:
    store = stored()
    store["c/1/1"] = store["c/1/1"][:-3]
    with pytest.raises(library.DecodeError, match="c/1/1"):
        traced_read(library.open_array(store, device="cpu"))


# ------------------------------------------------------------------------------------- pictures


def span(number: int, kind: Any, lane: str, start: float, stop: float, batch: int = 0) -> Span:
    return Span(number, kind, "<name>", lane, batch, 10, (), start, stop)


def test_operations_that_cannot_be_told_apart_are_drawn_as_one() -> None:
    many = [span(i, "read", "caller", i * 1e-5, (i + 1) * 1e-5) for i in range(50_000)]
    svg = draw_timeline(many, "a title", "below")
    assert len(svg) < 5_000
    assert "50000 x read, from batch 0 on" in svg


def test_what_is_apart_stays_apart() -> None:
    spans = [
        span(0, "read", "thread 10", 5.0, 6.0),
        span(1, "read", "thread 2", 5.0, 7.0),
        span(2, "host", "caller", 5.0, 9.0),
        span(3, "upload", "copies", 6.0, 7.0),
        span(4, "upload", "copies", 8.0, 9.0, batch=1),
    ]
    svg = draw_timeline(spans, "<title> & more", "below")
    root = ET.fromstring(svg)  # noqa: S314  ours
    rows = [text for text in texts(svg) if text in {"caller", "thread 2", "thread 10", "upload"}]
    assert rows[:4] == ["caller", "thread 2", "thread 10", "upload"]
    bars = [bar for bar in root.iter(f"{SVG}rect") if len(bar)]
    assert len(bars) == 5
    assert len({bar.get("fill-opacity") for bar in bars}) == 3, "two batches, and what lies behind"
    assert "upload: <name>, 1 s, batch 1, 10 B" in {bar[0].text for bar in bars}
    marks = [text for text in texts(svg) if text[:1].isdigit()]
    assert marks == ["0 s", "0.5", "1", "1.5", "2", "2.5", "3", "3.5", "4"]
