"""Reduces a weather data set by xarray: monthly means, and means weighted by area.

An example that is checked: it draws a year of air temperature (packed into 16 bits), wind and rain
on a grid of latitudes and longitudes, writes them sharded as Zarr v3, and reduces them by xarray,
once with gpuzarr's engine and once with its own engine "zarr". It ends with an error unless both
give the same, and unless the packed temperature is what was drawn, to half a step. It prints the
means of each month; `--plot FILE` shows them by latitude and over the world. xarray and zarr-python
write, matplotlib draws.

    python benchmarks/weather_reduction.py [--quick] [--plot FILE]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from report import print_table
from zarr.errors import ZarrUserWarning

HOURS = 6
"""Between two times."""
STEP = 0.01
"""Of packed temperatures, in kelvins."""
CHUNK = {"time": 40, "latitude": 30, "longitude": 60}
SHARD = {"time": 400, "latitude": 60, "longitude": 120}
UNITS = {"temperature": "K", "wind": "m/s", "rain": "mm"}
TITLES = {"temperature": "air temperature", "wind": "wind speed", "rain": "rain in 6 hours"}
COLORS = {"temperature": "inferno", "wind": "viridis", "rain": "YlGnBu"}


def draw_weather(degrees: float) -> xr.Dataset:
    """A year of weather with a seed that is fixed.

    Args:
        degrees: distance of neighbouring places.

    Returns:
        temperature, wind and rain, each float32 of (time, latitude, longitude).
    """
    random = np.random.default_rng(0)
    time = np.arange("2024-01-01", "2025-01-01", HOURS, dtype="M8[h]").astype("M8[ns]")
    latitude = np.arange(90 - degrees / 2, -90, -degrees)
    longitude = np.arange(degrees / 2, 360, degrees)
    shape = (len(time), len(latitude), len(longitude))
    day = np.arange(len(time)) * HOURS / 24
    season = np.cos(2 * np.pi * (day - 200) / 366)[:, None, None]
    tilt, sun = np.sin(np.radians(latitude))[:, None], np.cos(np.radians(latitude))[:, None]
    fields = {
        "temperature": 252 + 45 * sun + (12 * tilt + 2) * season + random.normal(0, 2, shape),
        "wind": 4 + 3 * np.abs(tilt) - (2 * tilt + 0.3) * season + random.gamma(2, 1, shape),
        "rain": np.maximum(0, sun - 0.5 + 0.2 * season + random.normal(0, 0.7, shape)),
    }
    dims = ("time", "latitude", "longitude")
    return xr.Dataset(
        {name: (dims, v.astype("f4"), {"units": UNITS[name]}) for name, v in fields.items()},
        {"time": time, "latitude": latitude, "longitude": longitude},
    )


def write_weather(weather: xr.Dataset, path: Path) -> None:
    """Write sharded, and temperatures as CF packs them: int16 with a scale and an offset."""
    sizes = weather.sizes
    chunks = tuple(min(size, sizes[name]) for name, size in CHUNK.items())
    shards = tuple(
        chunk * (min(size, sizes[name]) // chunk)
        for chunk, (name, size) in zip(chunks, SHARD.items(), strict=True)
    )
    encoding: dict[str, dict[str, Any]] = {
        name: {"chunks": chunks, "shards": shards} for name in weather
    }
    encoding["temperature"] |= {
        "dtype": "int16",
        "scale_factor": STEP,
        "add_offset": 273.15,
        "_FillValue": np.int16(-32768),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # consolidated metadata are new in v3
        weather.to_zarr(path, encoding=encoding, zarr_format=3, consolidated=True)


def reduce_weather(weather: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Means of each month.

    Returns:
        over each circle of latitude, of (month, latitude); and over the world, weighted by area, of
        (month,).
    """
    months = weather.groupby("time.month").mean()
    area = np.cos(np.radians(weather.latitude))
    return months.mean("longitude"), months.weighted(area).mean(("latitude", "longitude"))


def plot(zonal: xr.Dataset, world: xr.Dataset, path: str) -> None:
    """For each variable a map of month and latitude, and the curve of the world below it."""
    import matplotlib.pyplot as plt  # noqa: PLC0415  only where it is asked for

    figure, panels = plt.subplots(
        2, len(TITLES), figsize=(8.5, 4.6), height_ratios=(2, 1), sharex=True, layout="constrained"
    )
    for (above, below), (name, title) in zip(panels.T, TITLES.items(), strict=True):
        # The curve has the colours of its values: one scale for both.
        low, high = float(zonal[name].min()), float(zonal[name].max())
        image = above.pcolormesh(
            zonal.month, zonal.latitude, zonal[name].T, cmap=COLORS[name], vmin=low, vmax=high
        )
        above.set(title=title, yticks=[-60, -30, 0, 30, 60])
        figure.colorbar(image, ax=above, label=UNITS[name])
        below.plot(world.month, world[name], color="0.4", zorder=1)
        below.scatter(
            world.month, world[name], c=world[name], cmap=COLORS[name], vmin=low, vmax=high,
            edgecolors="0.2", linewidths=0.6, zorder=2,
        )  # fmt: skip
        below.set(ylabel=f"world ({UNITS[name]})", xticks=[1, 4, 7, 10])
        below.set_xticklabels(["Jan", "Apr", "Jul", "Oct"])
    panels[0, 0].set_ylabel("latitude (degrees)")
    figure.savefig(path, dpi=76)


def main() -> None:
    """Write, reduce, check, print, and show."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a coarser grid")
    parser.add_argument("--plot", help="a picture of the means, into this file")
    options = parser.parse_args()
    drawn = draw_weather(6 if options.quick else 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weather.zarr"
        write_weather(drawn, path)
        weather = xr.open_dataset(path, engine="gpuzarr", device="cpu")
        zonal, world = reduce_weather(weather)
        others = reduce_weather(xr.open_dataset(path, engine="zarr"))
        if not (zonal.identical(others[0]) and world.identical(others[1])):
            sys.exit("the engines gpuzarr and zarr do not give the same")
        worst = float(abs(weather.temperature - drawn.temperature).max())
        if not worst < 0.51 * STEP:
            sys.exit(f"temperature: {worst} K off what was drawn")
    rows = [
        [str(month), *(f"{world[name].sel(month=month).item():.3f}" for name in UNITS)]
        for month in world.month.values
    ]
    print_table(("month", *(f"{name} ({unit})" for name, unit in UNITS.items())), rows)
    if options.plot:
        plot(zonal, world, options.plot)


if __name__ == "__main__":
    main()
