from __future__ import annotations

from typing import Any

import pytest

from gpuzarr.errors import MetadataError, UnsupportedError
from gpuzarr.metadata.chunk_grids import MAX_EDGES, check_chunk_nbytes, parse_chunk_grid
from gpuzarr.metadata.model import RectilinearGrid, RegularGrid


def regular(chunk_shape: Any) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


def rectilinear(chunk_shapes: Any, kind: Any = "inline") -> dict[str, Any]:
    configuration = {"kind": kind, "chunk_shapes": chunk_shapes}
    return {"name": "rectilinear", "configuration": configuration}


def test_regular() -> None:
    assert parse_chunk_grid(regular([4, 9]), (6, 4)) == RegularGrid((4, 9))
    assert parse_chunk_grid(regular([]), ()) == RegularGrid(())


def test_chunks_of_zero_length_dimensions_may_be_zero() -> None:
    assert parse_chunk_grid(regular([0, 2]), (0, 4)) == RegularGrid((1, 2))
    assert parse_chunk_grid(regular([0, 4]), (0, 4), (3, 2)) == RegularGrid((3, 4))


@pytest.mark.parametrize(
    "chunk_shape",
    [None, 4, "4", {}, [4], [4, 4, 4], [0, 4], [-1, 4], [True, 4], [2.0, 4], [2**63, 4], ["4", 4]],
)
def test_regular_refuses(chunk_shape: Any) -> None:
    with pytest.raises(MetadataError, match="chunk_shape"):
        parse_chunk_grid(regular(chunk_shape), (6, 4))


def test_the_example_of_the_specification() -> None:
    chunk_shapes = [4, [1, 2, 3], [[4, 2]], [[1, 3], 3], [4, 4, 4]]
    # An array of one size that covers just the axis is the same as that size.
    assert parse_chunk_grid(rectilinear(chunk_shapes), (6,) * 5) == RectilinearGrid(
        (4, (1, 2, 3), 4, (1, 1, 1, 3), (4, 4, 4))
    )


def test_run_lengths_that_say_one_size_are_not_expanded() -> None:
    grid = parse_chunk_grid(rectilinear([[[1, 2**62]]]), (2**62,))
    assert grid == RectilinearGrid((1,))


@pytest.mark.parametrize(
    "chunk_shapes",
    [
        *(None, 5, {}, [], [[]], [[6], [4], [1]], [6], [[5], 4], [0, 4], [[0, 6], 4]),
        *([[-1, 7], 4], [[[6]], 4], [[[6, 0]], 4], [[[6, 1, 1]], 4], [[[0, 9]], 4]),
        *([[[True, 6]], 4], [[[6, True]], 4], [[6.0], 4], [["6"], 4], [[[[6, 1], 1]], 4]),
        *([True, 4], [None, 4], [[1, [2, 2**62]], 4], [[3, [2**62, 2**62]], 4], [[2**63], 4]),
    ],
)
def test_rectilinear_refuses(chunk_shapes: Any) -> None:
    with pytest.raises(MetadataError, match="chunk_shapes"):
        parse_chunk_grid(rectilinear(chunk_shapes), (6, 4))


def test_edges_are_bounded_over_all_axes() -> None:
    half = [[1, MAX_EDGES // 2 + 1], 2]
    parse_chunk_grid(rectilinear([half]), (10,))
    with pytest.raises(MetadataError, match="that many are read at most"):
        parse_chunk_grid(rectilinear([half, half]), (10, 10))


@pytest.mark.parametrize("kind", [None, "external", 5, ["inline"]])
def test_rectilinear_is_inline(kind: Any) -> None:
    with pytest.raises(MetadataError, match="kind"):
        parse_chunk_grid(rectilinear([6, 4], kind), (6, 4))


def test_regular_with_edge_lists_as_zarr_python_3_2_wrote_it() -> None:
    assert parse_chunk_grid(regular([[4, 2], 3]), (6, 4)) == RectilinearGrid(((4, 2), 3))
    with pytest.raises(MetadataError):
        parse_chunk_grid(regular([[4, 2], [3, 1]]), (6, 4))


def test_rectangular_and_bounded_of_zarrs() -> None:
    old = {"name": "rectangular", "configuration": {"chunk_shape": [[1, 5], 3]}}
    assert parse_chunk_grid(old, (6, 4)) == RectilinearGrid(((1, 5), 3))
    bounded = {"name": "zarrs.regular_bounded", "configuration": {"chunk_shape": [4, 2, 9]}}
    assert parse_chunk_grid(bounded, (10, 4, 3)) == RectilinearGrid(((4, 4, 2), 2, 3))
    assert parse_chunk_grid(bounded, (0, 4, 9)) == RectilinearGrid((4, 2, 9))


def test_unknown_and_ignorable_grids() -> None:
    with pytest.raises(UnsupportedError, match="regular"):
        parse_chunk_grid({"name": "irregular", "configuration": {}}, (6,))
    with pytest.raises(MetadataError, match="must_understand"):
        parse_chunk_grid(regular([6]) | {"must_understand": False}, (6,))
    for value in ("regular", {"name": "regular"}, {"name": "regular", "configuration": {}}):
        with pytest.raises(MetadataError, match="chunk_shape is missing"):
            parse_chunk_grid(value, (6,))
    extra = {"name": "regular", "configuration": {"chunk_shape": [6], "offset": [1]}}
    with pytest.raises(MetadataError, match="unknown member 'offset'"):
        parse_chunk_grid(extra, (6,))


def test_chunks_beyond_64_bits() -> None:
    check_chunk_nbytes(RegularGrid((2**31, 2**31)), 1)
    for grid in (RegularGrid((2**31, 2**32)), RectilinearGrid(((1, 2**62), 2))):
        with pytest.raises(MetadataError, match="bytes"):
            check_chunk_nbytes(grid, 1)
