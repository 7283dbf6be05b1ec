"""`gpuzarr read`: what lies in the file is what the array gives."""

from __future__ import annotations

import json
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr

from gpuzarr.cli import read
from gpuzarr.cli.read import expand, longest_cut, result_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]

KEYS = [
    "...",
    "0:3, ..., 5",
    "2, ::-3, ::7",
    "None, 1:, None, ::-1, 3:70:2",
    "-1, -1, -1",
    "::-1",
    "..., None",
    "5:2",
]


@pytest.mark.parametrize("text", KEYS)
@pytest.mark.parametrize("pieces", [False, True])
def test_files(
    text: str,
    pieces: bool,  # noqa: FBT001
    arrays: dict[str, DemoArray],
    tmp_path: Path,
    gpuzarr: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if pieces:
        monkeypatch.setattr(read, "WHOLE_NBYTES", 4)
        monkeypatch.setattr(read, "PIECE_NBYTES", 20_000)
    for name, array in arrays.items():
        target = tmp_path / f"{name}.npy"
        status, out, err = gpuzarr("read", array.path, f"--select={text}", "-o", target)
        assert (status, err) == (0, "")
        assert str(target) in out
        expected = array.values[eval(f"np.s_[{text}]")]  # noqa: S307  the texts above
        found = np.load(target)
        np.testing.assert_array_equal(found, expected, strict=True)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npy"] * len(arrays)


def test_lists(arrays: dict[str, DemoArray], tmp_path: Path, gpuzarr_json: RunJson) -> None:
    array = arrays["weather-v2"]
    target = tmp_path / "out.npy"
    status, found = gpuzarr_json("read", array.path, "--select", "[4, 0, 4], :, 1", "-o", target)
    assert status == 0
    assert found["shape"] == [3, 36]
    assert found["nbytes"] == 3 * 36 * 4
    np.testing.assert_array_equal(np.load(target), array.values[[4, 0, 4], :, 1])


@pytest.mark.parametrize("whole", [0, read.WHOLE_NBYTES])
def test_dtype(
    whole: int,
    arrays: dict[str, DemoArray],
    tmp_path: Path,
    gpuzarr: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read, "WHOLE_NBYTES", whole)
    array = arrays["cells-v3"]
    target = tmp_path / "out.npy"
    status, _, err = gpuzarr("read", array.path, "--dtype", "float32", "-o", target)
    assert (status, err) == (0, "")
    np.testing.assert_array_equal(np.load(target), array.values.astype("f4"), strict=True)


def test_pieces_of_types_that_are_not_cast(
    tmp_path: Path, gpuzarr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "WHOLE_NBYTES", 0)
    monkeypatch.setattr(read, "PIECE_NBYTES", 20)
    days: Any = np.array(["2020-01-01", "NaT", "1969-12-31"], "M8[D]")
    points: Any = np.array([(1, 2.5), (3, 4.5), (5, 6.5)], [("x", "<i4"), ("y", "<f8")])
    for values in (days, points):
        path = tmp_path / f"{values.dtype.kind}.zarr"
        zarr.create_array(path, data=values, chunks=(2,), zarr_format=2)
        target = tmp_path / "out.npy"
        assert gpuzarr("read", path, "-o", target)[0] == 0
        np.testing.assert_array_equal(np.load(target), values, strict=True)


def test_printing(arrays: dict[str, DemoArray], gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    array = arrays["cells-v3"]
    status, out, _ = gpuzarr("read", array.path, "--select", "0, 0, :3")
    assert status == 0
    assert out == np.array2string(array.values[0, 0, :3], separator=", ") + "\n"
    _, found = gpuzarr_json("read", array.path, "--select", "0, 0, :3")
    assert found["values"] == array.values[0, 0, :3].tolist()


def test_a_read_that_fails_leaves_the_old_file(group: Path, tmp_path: Path, gpuzarr: Run) -> None:
    target = tmp_path / "out.npy"
    target.write_bytes(b"old")
    status, out, err = gpuzarr("read", group / "inside" / "bad", "-o", target)
    assert (status, out) == (2, "")
    assert "c/1/0/0" in err
    assert "c/4/0/0" in err
    assert err.count("\n") == 1
    assert target.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"out.npy", "group.zarr"}


def test_a_disk_that_is_full(
    arrays: dict[str, DemoArray], tmp_path: Path, gpuzarr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "WHOLE_NBYTES", 4)
    full = types.SimpleNamespace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    status, _, err = gpuzarr("read", arrays["cells-v3"].path, "-o", tmp_path / "out.npy")
    assert status == 2
    assert "1000 B left" in err
    assert not list(tmp_path.iterdir())


def test_too_much_to_print(
    arrays: dict[str, DemoArray], gpuzarr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PRINTED", 100)
    path = arrays["cells-v3"].path
    for text in ("...", "0, 0, :101"):
        status, out, err = gpuzarr("read", path, "--select", text)
        assert (status, out) == (2, "")
        assert "-o" in err
    assert gpuzarr("read", path, "--select", "0, 0, :100")[0] == 0


def test_a_folder_that_is_not_there(arrays: dict[str, DemoArray], gpuzarr: Run) -> None:
    status, _, err = gpuzarr("read", arrays["cells-v3"].path, "-o", "no/such/folder/out.npy")
    assert status == 2
    assert "no/such/folder" in err


def test_shapes() -> None:
    shape = (4, 5, 6)
    values = np.zeros(shape)
    keys: list[Any] = [..., (1, ...), (slice(None, None, -2), None, 3), (0, 0, 0), ()]
    for key in keys:
        assert result_shape(shape, key) == values[key].shape
    assert result_shape(shape, [1, 2]) is None
    assert result_shape((2**62, 2**62), ...) is None
    assert longest_cut(expand((1, None, ...), 3), shape) == (2, 1)


def write(path: Path, values: np.ndarray, data_type: object, codecs: Sequence[object]) -> Path:
    """One chunk, with zarr.json; `values` are the stored bytes' elements."""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": values.shape,
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": values.shape}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": "AA==" if data_type == "bytes" else 0,
        "codecs": codecs,
    }
    (path / "c").mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(document))
    (path / "c" / "0").write_bytes(values.tobytes())
    return path


def test_types_that_files_have_not(tmp_path: Path, gpuzarr: Run) -> None:
    """bfloat16 would come back as raw bytes, and objects only as a pickle."""
    little = [{"name": "bytes", "configuration": {"endian": "little"}}]
    halves = np.array([0x3F80, 0xC000], "<u2")  # 1 and -2
    array = write(tmp_path / "halves.zarr", halves, "bfloat16", little)
    target = tmp_path / "out.npy"
    status, _, err = gpuzarr("read", array, "-o", target)
    assert status == 2
    assert "--dtype float32" in err
    assert not target.exists()
    assert gpuzarr("read", array, "-o", target, "--dtype", "float32")[0] == 0
    np.testing.assert_array_equal(np.load(target), np.array([1, -2], "f4"), strict=True)

    values = np.frombuffer(b"\1\0\0\0\1\0\0\0x", np.uint8)  # a count, a length, the bytes
    array = write(tmp_path / "bytes.zarr", values, "bytes", ["vlen-bytes"])
    document = json.loads((array / "zarr.json").read_text())
    document |= {"shape": [1]}
    document["chunk_grid"]["configuration"]["chunk_shape"] = [1]
    (array / "zarr.json").write_text(json.dumps(document))
    status, _, err = gpuzarr("read", array, "-o", target)
    assert status == 2
    assert "pickle" in err
    assert gpuzarr("read", array)[1] == "[b'x']\n"


def test_text_and_fields(tmp_path: Path, gpuzarr: Run) -> None:
    words = np.array([["a", "", "\u00fc"], ["longer than any", "b", "c"]])
    array = zarr.create_array(tmp_path / "words.zarr", shape=(2, 3), dtype="string", chunks=(1, 2))
    array[...] = words
    target = tmp_path / "out.npy"
    assert gpuzarr("read", tmp_path / "words.zarr", "-o", target)[0] == 0
    np.testing.assert_array_equal(np.load(target), words, strict=True)

    points: Any = np.array([(1, 2.5), (3, 4.5)], [("x", "<i4"), ("y", "<f8")])
    zarr.save_array(tmp_path / "points.zarr", points, zarr_format=2)
    assert gpuzarr("read", tmp_path / "points.zarr", "-o", target)[0] == 0
    np.testing.assert_array_equal(np.load(target), points, strict=True)
    assert gpuzarr("read", tmp_path / "points.zarr", "--select", "'y'", "-o", target)[0] == 0
    np.testing.assert_array_equal(np.load(target), points["y"], strict=True)
