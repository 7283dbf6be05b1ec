"""The keyed permutation: every number once, well mixed, and the same for ever."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuzarr.loader.permutation import draw, hash_numbers, permute


def whole(n: int, key: int) -> list[int]:
    numbers: list[int] = permute(np.arange(n), n, key).tolist()
    return numbers


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_it_is_a_permutation_for_every_size(key: int) -> None:
    for n in [*range(300), 4096, 4097, 99_991]:
        assert sorted(whole(n, key)) == list(range(n))


@given(st.integers(1, 2**62), st.integers(0, 2**64 - 1), st.data())
def test_different_numbers_stay_different_in_large_domains(
    n: int, key: int, data: st.DataObject
) -> None:
    some = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1, max_size=50))
    moved = permute(np.array(some), n, key)
    assert len(set(moved.tolist())) == len(some)
    assert moved.min() >= 0
    assert moved.max() < n


def test_sizes_and_keys_may_be_columns() -> None:
    index, n = np.array([0, 3, 3, 99]), np.array([1, 4, 5, 100])
    keys = hash_numbers(np.arange(4))
    together = permute(index, n, keys)
    for row in range(4):
        one = slice(row, row + 1)
        assert together[one].tolist() == permute(index[one], int(n[row]), keys[one]).tolist()


def test_numbers_outside_are_refused() -> None:
    for index, n in ((-1, 4), (4, 4), (0, 0)):
        with pytest.raises(ValueError, match="range"):
            permute(np.array([index]), n, 0)


def test_every_place_is_as_likely() -> None:
    n, keys = 16, 8000
    first = permute(np.zeros(keys, np.int64), n, hash_numbers(3, np.arange(keys)))
    counts = np.bincount(first, minlength=n)
    chi_square = float(((counts - keys / n) ** 2 / (keys / n)).sum())
    assert chi_square < 37.7  # the 99.9th percentile for 15 degrees of freedom


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_all_permutations_of_few_are_as_likely(n: int) -> None:
    keys = hash_numbers(99, np.arange(100_000))
    columns = [permute(np.full(len(keys), number), n, keys) for number in range(n)]
    counts = np.unique(np.stack(columns), axis=1, return_counts=True)[1]
    expected, degrees = len(keys) / factorial(n), factorial(n) - 1
    assert len(counts) == degrees + 1
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5


@pytest.mark.parametrize("n", [33, 64])
@pytest.mark.parametrize("pair", [(0, 1), (0, 8)])
def test_where_two_go_together_is_uniform(n: int, pair: tuple[int, int]) -> None:
    keys = hash_numbers(5, np.arange(200_000))
    one, other = (permute(np.full(len(keys), number), n, keys) for number in pair)
    counts = np.bincount(one * n + other, minlength=n * n)
    counts = counts[np.flatnonzero(~np.eye(n, dtype=bool))]
    degrees, expected = n * (n - 1) - 1, len(keys) / (n * (n - 1))
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert abs(chi_square - degrees) < 4 * (2 * degrees) ** 0.5


def test_every_order_of_few_is_as_likely() -> None:
    n, keys = 4, 24_000
    columns = [permute(np.full(keys, i), n, hash_numbers(9, np.arange(keys))) for i in range(n)]
    order = np.stack(columns, axis=-1) @ [64, 16, 4, 1]
    _, counts = np.unique(order, return_counts=True)
    assert len(counts) == 24
    assert float(((counts - 1000) ** 2 / 1000).sum()) < 49.7  # 99.9 %, 23 degrees of freedom


def test_neighbours_do_not_stay_neighbours() -> None:
    moved = np.array(whole(10_000, 5))
    steps = np.abs(np.diff(moved))
    assert (steps == 1).mean() < 0.002
    assert abs(np.corrcoef(moved[:-1], moved[1:])[0, 1]) < 0.05


def test_drawn_numbers_are_uniform() -> None:
    counts = np.bincount(draw(7, np.arange(20_000), below=10), minlength=10)
    assert float(((counts - 2000) ** 2 / 2000).sum()) < 27.9  # 99.9 %, 9 degrees of freedom
    huge = draw(7, np.arange(1000), below=2**62)
    assert 0 <= huge.min() < 2**57
    assert 2**62 - 2**57 < huge.max() < 2**62
    assert draw(1, np.arange(3), below=1).tolist() == [0, 0, 0]


def test_order_and_number_of_parts_count() -> None:
    values = [int(hash_numbers(*parts)) for parts in ((), (0,), (0, 0), (1, 0), (0, 1), (-1,))]
    assert len(set(values)) == len(values)


def test_what_it_gives_never_changes() -> None:
    """Epochs that were begun by an older version go on in the same order."""
    assert {
        "permute": whole(12, 42),
        "walked": whole(40, 42)[:12],
        "large": permute(np.array([0, 1, 2**61]), 2**62, 7).tolist(),
        "hash": [int(hash_numbers(1, 2)), int(hash_numbers(-1))],
        "draw": draw(5, np.arange(4), below=1000).tolist(),
    } == GOLDEN


GOLDEN: dict[str, list[int]] = {
    "permute": [9, 1, 4, 6, 0, 11, 3, 10, 5, 8, 2, 7],
    "walked": [5, 4, 30, 2, 38, 34, 29, 25, 6, 12, 23, 8],
    "large": [32439461438120368, 900646119880893476, 1605508854510104130],
    "hash": [13608149317741381227, 16490336266968443936],
    "draw": [979, 880, 654, 557],
}
