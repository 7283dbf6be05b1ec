"""Reads a region of an OME-Zarr pyramid by place and pixel size, and shows it.

An example that is checked: it draws cells, writes them as a pyramid of four levels (two channels,
sharded, OME-Zarr 0.5), reads an overview of all and a region in full, each from the level that is
fine enough, and ends with an error unless both are the pixels that were written. It prints what was
read of what is stored; `--plot FILE` shows both. zarr-python writes, matplotlib draws.

    python benchmarks/ome_region.py [--quick] [--plot FILE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from report import print_table

from gpuzarr.integrations.ome_zarr import open_pyramid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.integrations.ome_zarr import Pyramid

    Image = NDArray[np.uint16]
    Place = dict[str, tuple[float, float]]

SIDE = 2048
"""Pixels of the finest level along y and x."""
PIXEL = 0.25
"""Their size, in micrometers."""
LEVELS = 4
CHUNK, SHARD = 128, 512
RADIUS = 16
"""Of a nucleus, in pixels."""
CHANNELS = ("nuclei", "membranes")


def draw_cells(side: int) -> Image:
    """(2, side, side): nuclei, and the membranes around them."""
    random = np.random.default_rng(0)
    image = np.zeros((len(CHANNELS), side, side))
    reach = 3 * RADIUS
    y, x = np.mgrid[-reach:reach, -reach:reach]
    for _ in range(side * side // 3600):
        centre = random.integers(reach, side - reach, 2)
        long, angle = random.uniform(0.8, 1.6), random.uniform(0, np.pi)
        across, along = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
        distance = np.hypot(across, along / long) / RADIUS
        box = (
            slice(centre[0] - reach, centre[0] + reach),
            slice(centre[1] - reach, centre[1] + reach),
        )
        stamps = (np.exp(-(distance**4)), np.exp(-(((distance - 1.6) / 0.15) ** 2)))
        for channel, stamp in zip(image, stamps, strict=True):
            np.maximum(channel[box], random.uniform(0.4, 1) * stamp, out=channel[box])
    return (200 + 3000 * image + random.normal(0, 20, image.shape)).astype(np.uint16)


def write_pyramid(folder: Path, image: Image) -> list[Image]:
    """Write an image at all levels, each the mean of blocks of the one before; gives them."""
    group = zarr.create_group(folder)
    levels, datasets = [image], []
    for number in range(LEVELS):
        if number:
            y, x = (n // 2 for n in levels[-1].shape[1:])
            blocks = levels[-1].reshape(len(CHANNELS), y, 2, x, 2)
            levels.append(blocks.mean((2, 4)).astype(np.uint16))
        size = PIXEL * 2**number
        first = (size - PIXEL) / 2  # edges of pixels lie on edges
        datasets.append(
            {
                "path": str(number),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1, size, size]},
                    {"type": "translation", "translation": [0, first, first]},
                ],
            }
        )
        shard = min(SHARD, levels[-1].shape[-1])
        group.create_array(
            str(number),
            data=levels[-1],
            chunks=(1, min(CHUNK, shard), min(CHUNK, shard)),
            shards=(1, shard, shard),
        )
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    axes = [{"name": "c", "type": "channel"}, *space]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"name": "cells", "axes": axes, "datasets": datasets}],
    }
    return levels


def read_both(pyramid: Pyramid, side: int) -> list[tuple[str, float, Place, Image]]:
    """An overview and a region: what for, the wanted pixel size, the place, and the pixels."""
    width = side * PIXEL
    region = (0.4 * width, 0.55 * width)
    wanted: list[tuple[str, float, Place]] = [
        ("overview", 8 * PIXEL, {}),
        ("region", PIXEL, {"y": region, "x": region}),
    ]
    return [
        (name, size, place, np.asarray(pyramid.read(pixel_size=size, **place)))
        for name, size, place in wanted
    ]


def plot(found: list[tuple[str, float, Place, Image]], side: int, path: str) -> None:
    """Both side by side, nuclei blue and membranes orange, in micrometers."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  only where it is asked for
    from matplotlib.patches import Rectangle  # noqa: PLC0415

    colors = np.array([[0.25, 0.5, 1.0], [1.0, 0.55, 0.1]])
    figure, panels = plt.subplots(1, len(found), figsize=(8.5, 4.2), layout="constrained")
    whole = (0.0, side * PIXEL)
    for panel, (name, size, place, pixels) in zip(panels, found, strict=True):
        shown = np.tensordot((pixels - 280.0) / 3000, colors, (0, 0))
        (low_y, high_y), (low_x, high_x) = place.get("y", whole), place.get("x", whole)
        panel.imshow(shown.clip(0, 1), extent=(low_x, high_x, high_y, low_y))
        panel.set_title(f"{name}: {pixels.shape[1]} x {pixels.shape[2]} pixels of {size:g} µm")
        panel.set_xlabel("µm")
    low, high = found[1][2]["x"]
    panels[0].add_patch(
        Rectangle((low, low), high - low, high - low, fill=False, edgecolor="white")
    )
    figure.savefig(path, dpi=76, pil_kwargs={"optimize": True})


def main() -> None:
    """Write, read, check, print, and show."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a smaller image")
    parser.add_argument("--plot", help="a picture of what was read, into this file")
    options = parser.parse_args()
    side = SIDE // 4 if options.quick else SIDE
    with tempfile.TemporaryDirectory() as folder:
        levels = write_pyramid(Path(folder) / "cells.zarr", draw_cells(side))
        pyramid = open_pyramid(Path(folder) / "cells.zarr")
        print(pyramid)
        found = read_both(pyramid, side)
        rows = []
        for name, size, place, pixels in found:
            level = pyramid.level_for(size)
            number = pyramid.levels.index(level)
            key = pyramid.key(level, **place)
            if not np.array_equal(pixels, levels[number][key]):
                sys.exit(f"{name}: these are not the pixels that were written")
            rows.append((name, f"{size:g} µm", str(number), str(pixels.shape), _share(level, key)))
        print_table(("", "pixels of", "level", "shape", "chunks read"), rows)
    if options.plot:
        plot(found, side, options.plot)


def _share(level: Any, key: Any) -> str:
    report = level.array.explain(key)
    return f"{report.chunks} of {level.array.explain().chunks}"


if __name__ == "__main__":
    main()
