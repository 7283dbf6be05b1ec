"""Images of OME-Zarr in memory, of all versions, written without any library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tests.arrays import encoded, plain_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Values = np.ndarray[Any, Any]

NAMES = ("y", "x")
AXES = tuple({"name": name, "type": "space", "unit": "micrometer"} for name in NAMES)


def halved(values: Values, times: int = 2) -> list[Values]:
    """An image, and the same again and again at half the size along the last two axes."""
    levels = [values]
    for _ in range(times):
        y, x = (n // 2 for n in levels[-1].shape[-2:])
        cut = levels[-1][..., : 2 * y, : 2 * x]
        blocks = cut.reshape((*cut.shape[:-2], y, 2, x, 2))
        levels.append(blocks.mean((-3, -1)).astype(values.dtype))
    return levels


def scaled(*scale: float, translation: Sequence[float] = ()) -> list[dict[str, Any]]:
    """Transformations as the metadata have them."""
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
    if translation:
        steps.append({"type": "translation", "translation": list(translation)})
    return steps


def image_store(
    levels: Sequence[Values],
    multiscale: Mapping[str, Any],
    *,
    below_ome: bool = True,
) -> dict[str, bytes]:
    """A group of arrays named 0, 1, ... with the metadata of an image."""
    images = [dict(multiscale)]
    attributes = {"ome": {"version": "0.5", "multiscales": images}}
    store = {
        "zarr.json": encoded(
            {
                "zarr_format": 3,
                "node_type": "group",
                "attributes": attributes if below_ome else {"multiscales": images},
            }
        )
    }
    for number, values in enumerate(levels):
        store |= plain_store(values, (16,) * values.ndim, path=str(number))
    return store


def small_image() -> dict[str, bytes]:
    """Three levels of (64, 96) uint16, pixels of 0.5, 1 and 2 micrometers, edges on edges."""
    values = np.arange(64 * 96, dtype=np.uint16).reshape(64, 96)
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": scaled(
                *(size, size), translation=((size - 0.5) / 2, (size - 0.5) / 2)
            ),
        }
        for number, size in enumerate((0.5, 1.0, 2.0))
    ]
    return image_store(halved(values), {"axes": AXES, "datasets": datasets})
