"""Pyramids of OME-Zarr: levels by pixel size, regions by place, and metadata of all versions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpuzarr
from gpuzarr.integrations.ome_zarr import Pyramid, open_pyramid
from tests.arrays import CountingStore, encoded
from tests.integrations.pyramids import AXES, halved, image_store, scaled, small_image

VALUES = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
LEVELS = halved(VALUES)


def opened(**multiscale: Any) -> Pyramid:
    """Three levels of a small image, with other metadata."""
    datasets = [
        {"path": str(number), "coordinateTransformations": scaled(size, size)}
        for number, size in enumerate((0.5, 1, 2))
    ]
    document = {"axes": AXES, "datasets": datasets} | multiscale
    return open_pyramid(image_store(LEVELS, document))


def number_of(pyramid: Pyramid, pixel_size: Any) -> int:
    return pyramid.levels.index(pyramid.level_for(pixel_size))


@pytest.mark.parametrize(
    ("pixel_size", "number"),
    [(0.1, 0), (0.5, 0), (0.99, 0), (1, 1), (1.5, 1), (2, 2), (100, 2), ({"x": 1.2}, 1)],
)
def test_the_coarsest_level_that_is_fine_enough_is_chosen(pixel_size: Any, number: int) -> None:
    assert number_of(opened(), pixel_size) == number
    assert opened().read(pixel_size=pixel_size).shape == LEVELS[number].shape


def test_an_axis_that_no_level_has_so_fine_does_not_choose_the_level() -> None:
    values = np.zeros((8, 64, 96), np.uint8)
    levels = halved(values)
    datasets = [
        {"path": str(number), "coordinateTransformations": scaled(3, size, size)}
        for number, size in enumerate((0.5, 1, 2))
    ]
    axes = [{"name": "z", "type": "space", "unit": "micrometer"}, *AXES]
    pyramid = open_pyramid(image_store(levels, {"axes": axes, "datasets": datasets}))
    assert number_of(pyramid, 1) == 1
    assert number_of(pyramid, {"z": 10}) == 2
    assert number_of(pyramid, {"z": 1, "y": 0.7, "x": 2}) == 0


@pytest.mark.parametrize("pixel_size", [0, -1.0, float("nan"), {"y": 0}, {"depth": 1}])
def test_a_size_that_pixels_cannot_have_is_refused(pixel_size: Any) -> None:
    with pytest.raises(ValueError, match=r"pixel_size"):
        opened().level_for(pixel_size)


@given(
    low=st.integers(-40, 60),
    length=st.integers(1, 80),
    pixel_size=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_a_region_is_the_pixels_whose_middles_lie_in_it(
    low: int, length: int, pixel_size: float
) -> None:
    pyramid = open_pyramid(small_image())
    level = pyramid.level_for(pixel_size)
    begin, end = low / 4, (low + length) / 4
    places = level.translation[1] + level.scale[1] * np.arange(level.array.shape[1])
    inside = np.flatnonzero((places >= begin) & (places < end))
    if not len(inside):
        with pytest.raises(gpuzarr.SelectionError, match=r"no pixel's middle is there"):
            pyramid.read(pixel_size=pixel_size, x=(begin, end))
        return
    found = pyramid.read(pixel_size=pixel_size, x=(begin, end))
    assert np.array_equal(found, LEVELS[pyramid.levels.index(level)][:, inside])


def test_rounding_does_not_lose_a_pixel() -> None:
    datasets = [{"path": "0", "coordinateTransformations": scaled(0.1, 0.1)}]
    pyramid = opened(datasets=datasets)
    for number in range(60):
        assert pyramid.key(pyramid.levels[0], y=(number * 0.1, 7.0))[0] == slice(number, 64)


def test_slices_numbers_and_open_ends_are_taken() -> None:
    pyramid = opened()
    assert np.array_equal(pyramid.read(y=3, x=slice(2, 9, 2)), VALUES[3, 2:9:2])
    assert np.array_equal(pyramid.read(y=(-np.inf, 2), x=(40, np.inf)), VALUES[:4, 80:])
    assert pyramid.read(dtype="float32").dtype == np.float32


@pytest.mark.parametrize("wanted", [(5, 5), (7, 3), (1,), (1, 2, 3), (float("nan"), 3)])
def test_what_is_no_range_is_refused(wanted: Any) -> None:
    with pytest.raises(gpuzarr.SelectionError, match=r"must be \(low, high\)"):
        opened().read(x=wanted)


def test_an_axis_that_there_is_not_is_named() -> None:
    with pytest.raises(gpuzarr.SelectionError, match=r"no axis 'z', but y, x"):
        opened().read(z=1)


def test_only_the_chunks_of_the_region_are_read() -> None:
    store = CountingStore(small_image())
    pyramid = open_pyramid(store)
    store.reads.clear()
    assert pyramid.read(pixel_size=1, y=(0, 15), x=(17, 30)).shape == (15, 13)
    assert [key for key, _, _ in store.reads] == ["1/c/0/1"]


def test_transformations_of_the_image_come_behind_those_of_its_levels() -> None:
    outer = [{"type": "scale", "scale": [1, 2]}, {"type": "translation", "translation": [0, 5]}]
    datasets = [
        {"path": "0", "coordinateTransformations": scaled(3, 3, translation=[1, 1])},
        {"path": "1", "coordinateTransformations": [{"type": "identity"}]},
    ]
    pyramid = opened(datasets=datasets, coordinateTransformations=outer)
    found = [(level.scale, level.translation) for level in pyramid.levels]
    assert found == [((3, 6), (1, 7)), ((1, 2), (0, 5))]


@pytest.mark.parametrize("axes", [None, ["y", "x"]])
def test_pixels_of_old_versions_are_as_large_as_shapes_tell(axes: Any) -> None:
    document: dict[str, Any] = {"datasets": [{"path": "0"}, {"path": "1"}, {"path": "2"}]}
    if axes:
        document["axes"] = axes
    pyramid = open_pyramid(image_store(LEVELS, document, below_ome=False))
    assert [axis.name for axis in pyramid.axes] == ["y", "x"]
    assert [level.scale for level in pyramid.levels] == [(1, 1), (2, 2), (4, 4)]
    assert [level.translation for level in pyramid.levels] == [(0, 0), (0.5, 0.5), (1.5, 1.5)]


def test_a_group_is_taken_as_well_and_images_are_chosen_by_name() -> None:
    store = image_store(LEVELS, {"name": "cells", "datasets": [{"path": "0"}]}, below_ome=False)
    group = gpuzarr.open_group(store)
    for image in (0, "cells"):
        assert open_pyramid(group, image=image).levels[0].array.shape == (64, 96)
    with pytest.raises(gpuzarr.MetadataError, match=r"no image 'nuclei' among 1"):
        open_pyramid(group, image="nuclei")


@pytest.mark.parametrize(
    ("multiscale", "kind", "text"),
    [
        ({"datasets": []}, gpuzarr.MetadataError, "must list the levels"),
        ({"datasets": 5}, gpuzarr.MetadataError, "must list the levels"),
        ({"datasets": ["0"]}, gpuzarr.MetadataError, "a level needs a `path`"),
        ({"datasets": [{"path": 0}]}, gpuzarr.MetadataError, "a level needs a `path`"),
        ({"datasets": [{"path": "9"}]}, gpuzarr.NotFoundError, "'9' is not stored"),
        ({"axes": AXES[:1]}, gpuzarr.MetadataError, "1 axes, but arrays"),
        ({"axes": [1, 2]}, gpuzarr.MetadataError, "an axis needs a `name`"),
        ({"axes": ["x", "x"]}, gpuzarr.MetadataError, "axes of one name"),
        ({"coordinateTransformations": scaled(1)}, gpuzarr.MetadataError, "must be 2 numbers"),
        ({"coordinateTransformations": scaled(1, 0)}, gpuzarr.MetadataError, "more than 0"),
        (
            {"coordinateTransformations": scaled(1, float("inf"))},
            gpuzarr.MetadataError,
            "must be 2 numbers",
        ),
        ({"coordinateTransformations": [7]}, gpuzarr.UnsupportedError, "only scales"),
        (
            {"coordinateTransformations": [{"type": "affine", "affine": [[1, 0, 0]]}]},
            gpuzarr.UnsupportedError,
            "only scales",
        ),
        (
            {"coordinateTransformations": [{"type": "scale", "path": "s"}]},
            gpuzarr.UnsupportedError,
            "only scales",
        ),
    ],
)
def test_metadata_that_are_no_image_say_why(
    multiscale: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        opened(**multiscale)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({}, "no `multiscales`"),
        ({"ome": 3}, "no `multiscales`"),
        ({"ome": {"plate": {}}}, "open the image of a field of a well"),
        ({"well": {}}, "path='0'"),
        ({"bioformats2raw.layout": 3}, "one of its images"),
        ({"multiscales": [3]}, "no image 0 among 1"),
    ],
)
def test_groups_that_are_no_image_say_what_to_open(attributes: dict[str, Any], text: str) -> None:
    document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    group = gpuzarr.open_group({"zarr.json": encoded(document)})
    with pytest.raises(gpuzarr.MetadataError, match=text):
        open_pyramid(group)
