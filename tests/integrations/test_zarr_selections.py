"""Cuts of chunks, joined to selections again; and what is no cut of a selection, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.integrations.zarr_selections import ChunkKeys, Cuts, Joined, join_cuts
from gpuzarr.metadata.model import ChunkKeyEncoding
from gpuzarr.plan.grid import RegularAxis

GRID = (RegularAxis(100, 10), RegularAxis(100, 10))
LEFT, RIGHT = (slice(4, 10, 1), slice(2, 5, 1)), (slice(4, 10, 1), slice(0, 3, 1))
TWO = Cuts(
    coords=[(1, 0), (1, 1)],
    taken=[(slice(4, 10, 1), slice(7, 10, 1)), (slice(4, 10, 1), slice(0, 5, 1))],
    put=[(slice(0, 6), slice(0, 3)), (slice(0, 6), slice(3, 8))],
    drop_axes=(),
)
"""array[14:20, 7:15]"""
POINTS = Cuts(
    coords=[(0, 0), (2, 3)],
    taken=[(np.array([5]), np.array([6])), (np.array([0, 9]), np.array([1, 2]))],
    put=[np.array([1]), np.array([2, 0])],
    drop_axes=(),
)
"""array.vindex[[29, 5, 20], [32, 6, 31]]"""


def joined(cuts: Cuts, shape: tuple[int, ...], **other: Any) -> Joined:
    members = {name: getattr(cuts, name) for name in ("coords", "taken", "put", "drop_axes")}
    return join_cuts(Cuts(**{**members, **other}), GRID, shape)


def listed(found: Joined) -> Any:
    return found.form, [part.tolist() for part in found.key if isinstance(part, np.ndarray)]


def test_cuts_are_joined() -> None:
    assert joined(TWO, (6, 8)) == Joined("basic", (slice(14, 20, 1), slice(7, 15, 1)))
    apart = joined(TWO, (6, 8), coords=[(1, 0), (1, 2)])
    assert apart.key[0] == slice(14, 20, 1)
    assert listed(apart) == ("oindex", [[7, 8, 9, 20, 21, 22, 23, 24]])
    assert listed(joined(POINTS, (3,))) == ("vindex", [[29, 5, 20], [32, 6, 31]])


def test_slices_that_leave_out_chunks_are_slices_again() -> None:
    cuts = Cuts(
        [(0,), (2,), (4,)], [(slice(5, 10, 20),)] * 3, [(slice(i, i + 1),) for i in range(3)], ()
    )
    assert join_cuts(cuts, GRID[:1], (3,)) == Joined("basic", (slice(5, 46, 20),))


def test_lists_are_brought_into_the_order_of_the_result() -> None:
    taken = [np.ix_([3], [2, 1]), np.ix_([3], [0])]
    put = [np.ix_([0, 2]), np.ix_([1])]
    cuts = Cuts([(1, 0), (1, 1)], taken, put, (0,))
    found = join_cuts(cuts, GRID, (3,))
    assert found.key[0] == 13
    assert listed(found) == ("oindex", [[2, 10, 1]])


@pytest.mark.parametrize(
    "other",
    [
        {"coords": [(1, 0), (2, 1)]},
        {"coords": [(1, 1), (1, 0)]},
        {"coords": [(1, 0), (1, 0)]},
        {"taken": [(slice(4, 10, 1), slice(7, 10, 1)), (slice(5, 10, 1), slice(0, 5, 1))]},
        {"taken": [(slice(4, 10, 1), slice(7, 10, 1)), (slice(4, 10, 1), slice(0, 4, 1))]},
        {
            "taken": [(slice(4, 10, 1), slice(6, 9, 1)), (slice(4, 10, 1), slice(0, 5, 1))],
            "drop_axes": (1,),
        },
        {"taken": [(4, slice(7, 10, 1)), (4, slice(0, 5, 1))]},
        {"put": [(slice(0, 6), slice(0, 3)), (slice(1, 7), slice(3, 8))]},
        {"put": [(slice(0, 6), slice(0, 3)), (slice(0, 6), slice(2, 7))]},
        {"put": [(slice(0, 6), slice(0, 3)), (slice(0, 6), slice(3, 7))]},
        {"put": [(slice(0, 6), slice(0, 3)), (slice(0, 5), slice(3, 8))]},
        {"put": [(slice(0, 6), slice(5, 8)), (slice(0, 6), slice(3, 8))]},
    ],
)
def test_what_is_no_cut_of_a_box_is_refused(other: Any) -> None:
    with pytest.raises(gpuzarr.UnsupportedError, match="zarr-python asks for"):
        joined(TWO, (6, 8), **{"taken": TWO.taken, **other})


@pytest.mark.parametrize("shape", [(6, 9), (6, 7), (7, 8), (6,), (6, 8, 1)])
def test_a_result_that_is_not_filled_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(gpuzarr.UnsupportedError, match="zarr-python asks for"):
        joined(TWO, shape)


@pytest.mark.parametrize(
    "other",
    [
        {"put": [np.array([1]), np.array([2, 1])]},
        {"put": [np.array([1, 0]), np.array([2])]},
        {"put": [slice(0, 1), slice(1, 2)]},
        {"taken": [(np.array([5]), np.array([6])), (np.array([0, 9]), np.array([1]))]},
        {"taken": [(np.array([5]), np.array([6])), (np.array([0, 10]), np.array([1, 2]))]},
        {"taken": [(np.array([-1]), np.array([6])), (np.array([0, 9]), np.array([1, 2]))]},
    ],
)
def test_what_is_no_cut_of_points_is_refused(other: Any) -> None:
    with pytest.raises(gpuzarr.UnsupportedError, match="zarr-python asks for"):
        joined(POINTS, (3,), **other)


@pytest.mark.parametrize(
    ("encoding", "ndim", "key", "path", "coords"),
    [
        (ChunkKeyEncoding("default", "/"), 2, "a/c/1/22", "a", (1, 22)),
        (ChunkKeyEncoding("default", "."), 2, "c.1.22", "", (1, 22)),
        (ChunkKeyEncoding("default", "/"), 0, "c/c", "c", ()),
        (ChunkKeyEncoding("v2", "."), 2, "1.2/3.4", "1.2", (3, 4)),
        (ChunkKeyEncoding("v2", "/"), 2, "1/2/3/4", "1/2", (3, 4)),
        (ChunkKeyEncoding("v2", "."), 0, "a\nb/0", "a\nb", ()),
    ],
)
def test_keys(
    encoding: ChunkKeyEncoding, ndim: int, key: str, path: str, coords: tuple[int, ...]
) -> None:
    keys = ChunkKeys(encoding, ndim)
    assert keys.path_in(key) == path
    assert keys.coords([key, key], path) == [coords, coords]
    with pytest.raises(gpuzarr.UnsupportedError, match="not of one array"):
        keys.coords([key], "elsewhere")
    assert keys.path_in("zarr.json") is None
