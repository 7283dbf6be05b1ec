"""The rows of the survey that are about the reader: kinds of store, indexing beyond the basic.

One small array of each format stands for all; its values are those that the corpus expects.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr

from .case import Case, assert_equal

if TYPE_CHECKING:
    from .corpus import Corpus

CASES = (
    "handmade-v3-no-parent-documents",
    "handmade-v2-layout-slash-3d-f",
    "handmade-v3-shard-gaps-gzip",
)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, corpus: Corpus) -> Case:
    return corpus.case(request.param)


def read(store: Any, path: str) -> Any:
    return gpuzarr.open_array(store, path=path, device="cpu")[...]


def objects(case: Case) -> dict[str, bytes]:
    files = (path for path in sorted(case.store.rglob("*")) if path.is_file())
    return {path.relative_to(case.store).as_posix(): path.read_bytes() for path in files}


def test_directory_forms(case: Case) -> None:
    expected = case.expected()
    assert_equal(expected, read(case.store, case.path))
    assert_equal(expected, read(f"{case.store}/", case.path))
    assert_equal(expected, read(str(case.store), f"/{case.path}/" if case.path else ""))
    assert_equal(expected, read(str(case.store / case.path), ""))


def test_file_url(case: Case) -> None:
    assert_equal(case.expected(), read(case.store.as_uri(), case.path))


def test_mapping(case: Case) -> None:
    assert_equal(case.expected(), read(objects(case), case.path))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("directories", ["", "with entries for directories"])
def test_zip(case: Case, tmp_path: Path, compression: int, directories: str) -> None:
    target = tmp_path / "store.zip"
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, content in objects(case).items():
            if (
                directories
                and "/" in name
                and f"{Path(name).parent.as_posix()}/" not in archive.namelist()
            ):
                archive.writestr(f"{Path(name).parent.as_posix()}/", b"")
            archive.writestr(name, content)
    assert_equal(case.expected(), read(target, case.path))
    assert_equal(case.expected(), read(str(target), case.path))


def test_reference_file(case: Case, tmp_path: Path) -> None:
    """Optional: read right, or refused cleanly."""
    shutil.copytree(case.store, tmp_path / "data")
    references: dict[str, Any] = {}
    for name, content in objects(case).items():
        is_document = name.split("/")[-1] in ("zarr.json", ".zarray", ".zattrs", ".zgroup")
        at = [str(tmp_path / "data" / name), 0, len(content)]
        references[name] = content.decode() if is_document else at
    target = tmp_path / "references.json"
    target.write_text(json.dumps({"version": 1, "refs": references}))
    try:
        actual = read(str(target), case.path)
    except gpuzarr.GpuzarrError:
        return
    assert_equal(case.expected(), actual)


def test_group_leads_to_the_array(corpus: Corpus) -> None:
    for case_id in ("handmade-v3-consolidated-inline", "handmade-v2-consolidated"):
        case = corpus.case(case_id)
        group = gpuzarr.open_group(str(case.store), device="cpu")
        direct: Any = group[case.path]
        steps: Any = group["inner"]
        assert_equal(case.expected(), direct[...])
        assert_equal(case.expected(), steps["values"][...])


@pytest.fixture
def array(case: Case) -> Any:
    return gpuzarr.open_array(case.store, path=case.path, device="cpu")


def test_orthogonal_indexing(case: Case, array: Any) -> None:
    expected = case.expected()
    picks = [np.array([extent - 1, 0, extent // 2, extent // 2]) for extent in expected.shape]
    assert_equal(expected[np.ix_(*picks)], array.oindex[tuple(picks)])
    first = expected.take(picks[0], axis=0)
    assert_equal(first, array.oindex[(picks[0], *[slice(None)] * (expected.ndim - 1))])
    mask = np.arange(expected.shape[0]) % 3 == 1
    assert_equal(expected[mask], array.oindex[(mask, *[slice(None)] * (expected.ndim - 1))])


def test_coordinate_indexing(case: Case, array: Any) -> None:
    expected = case.expected()
    rng = np.random.default_rng(1)
    picks = tuple(rng.integers(-extent, extent, 30) for extent in expected.shape)
    assert_equal(expected[picks], array.vindex[picks])
    square = tuple(pick.reshape(5, 6) for pick in picks)
    assert_equal(expected[square], array.vindex[square])
    mask = rng.integers(0, 2, expected.shape).astype(bool)
    assert_equal(expected[mask], array.vindex[mask])


def test_advanced_indexing_follows_numpy(case: Case, array: Any) -> None:
    expected = case.expected()
    pick = np.array([[0, 1], [-1, 0]])
    assert_equal(expected[pick], array[pick])
    assert_equal(expected[..., pick], array[..., pick])
    assert_equal(expected[[0, 2, 1]], array[[0, 2, 1]])
    assert_equal(expected[1:, [0, 2, 0]], array[1:, [0, 2, 0]])
    mask = np.random.default_rng(2).integers(0, 2, expected.shape).astype(bool)
    assert_equal(expected[mask], array[mask])
    assert_equal(expected[None, ..., 1], array[None, ..., 1])


def test_blocks(corpus: Corpus) -> None:
    case = corpus.case("handmade-v3-no-parent-documents")
    array: Any = gpuzarr.open_array(case.store, path=case.path, device="cpu")
    expected = case.expected()
    height, width = array.chunks
    assert_equal(expected[height : 2 * height, :width], array.blocks[1, 0])
    assert_equal(expected[height:], array.blocks[1:])
    assert_equal(expected[:, -(expected.shape[1] % width or width) :], array.blocks[:, -1])


def test_out_of_range(case: Case, array: Any) -> None:
    extent = case.expected().shape[0]
    for key in (extent, -extent - 1, (0,) * 9, "text"):
        with pytest.raises((IndexError, gpuzarr.GpuzarrError)):
            array[key]
    assert_equal(case.expected()[extent:], array[extent:])
    assert_equal(case.expected()[-99:99], array[-99:99])
