"""Every array of the corpus reads as its writer reads it; what must be refused raises an error."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest

import gpuzarr
from gpuzarr import few

from .case import ROWS, Case, assert_equal
from .corpus import Corpus, case_ids, describe, must_not_skip, unavailable

if TYPE_CHECKING:
    import numpy as np

SELECTIONS_A_CASE = 4
MOST_FEW = 128
Selection = tuple[Any, ...]


def take(corpus: Corpus, case_id: str) -> Case:
    """The case, or a skip (in CI a failure) where its writer is not installed."""
    reason = unavailable(case_id)
    if reason is not None:
        if must_not_skip():
            pytest.fail(reason)
        pytest.skip(reason)
    return corpus.case(case_id)


def open_case(case: Case) -> Any:
    """The case's array, results in NumPy."""
    return gpuzarr.open_array(str(case.store), path=case.path, device="cpu")


def random_selections(shape: tuple[int, ...], seed: int) -> list[Selection]:
    """Integers, slices with steps, both of both signs, some clipped, and an Ellipsis."""
    rng = random.Random(seed)  # noqa: S311 - the same in every run
    return [_random_selection(shape, rng) for _ in range(SELECTIONS_A_CASE)]


def _random_selection(shape: tuple[int, ...], rng: random.Random) -> Selection:
    key: list[Any] = []
    for extent in shape:
        kind = rng.randrange(4)
        if kind == 0 and extent:
            key.append(rng.randrange(-extent, extent))
        elif kind == 1:
            key.append(slice(None))
        else:
            low, high = (rng.randrange(-extent - 2, extent + 3) for _ in range(2))
            step = rng.choice([1, 1, 2, 3, 7, -1, -2, None])
            key.append(slice(rng.choice([low, None]), rng.choice([high, None]), step))
    if rng.randrange(2):
        cut = rng.randrange(len(key) + 1)
        key[cut : rng.randrange(cut, len(key) + 1)] = [Ellipsis]
    return tuple(key)


def index(expected: np.ndarray[Any, Any], key: Selection) -> np.ndarray[Any, Any]:
    """NumPy's answer as an array, also where it would be a scalar."""
    return expected[key if Ellipsis in key else (*key, Ellipsis)]


@pytest.mark.parametrize("case_id", [one for one in case_ids() if describe(one).demand != "refuse"])
def test_reads_as_written(corpus: Corpus, case_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shape, data type, every value, and a few selections; again as a few chunks are read."""
    case = take(corpus, case_id)
    expected = case.expected()
    if case.demand == "optional":
        try:
            actual = open_case(case)[case.selection or ...]
        except gpuzarr.GpuzarrError:
            return
        assert_equal(expected, actual)
        return
    array = open_case(case)
    assert array.shape == case.shape
    if case.selection is not None:
        assert_equal(expected, array[case.selection])
        return
    for most in (0, MOST_FEW):
        monkeypatch.setattr(few, "MOST_CHUNKS", most)
        assert_equal(expected, array[...])
        for key in random_selections(expected.shape, zlib.crc32(case_id.encode())):
            try:
                assert_equal(index(expected, key), array[key])
            except AssertionError as error:
                message = f"selection {key}, at most {most} chunks are few: {error}"
                raise AssertionError(message) from error


@pytest.mark.parametrize("case_id", [one for one in case_ids() if describe(one).demand == "refuse"])
def test_refuses_cleanly(corpus: Corpus, case_id: str) -> None:
    """An error of gpuzarr's own tree, at open or at the first read, never a value."""
    case = take(corpus, case_id)
    error = getattr(gpuzarr, case.error) if case.error else gpuzarr.GpuzarrError
    with pytest.raises(error):
        _ = open_case(case)[...]


def test_every_owed_row_has_a_case() -> None:
    """Each "must" and "refuse" row of the survey is shown by a case, or by a test of its own."""
    shown = {row for case_id in case_ids() for row in describe(case_id).rows}
    owed = {
        name for name, row in ROWS.items() if row.demand in ("must", "refuse") and not row.by_test
    }
    assert owed <= shown, f"rows without a case: {sorted(owed - shown)}"
    assert shown <= set(ROWS), f"unknown rows: {sorted(shown - set(ROWS))}"


def test_ids_are_unique() -> None:
    """Two cases of one name would hide each other."""
    ids = case_ids()
    assert len(ids) == len(set(ids))
