"""xarray's engine "gpuzarr" beside its engine "zarr": data sets, encodings, and what is indexed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr
from zarr.abc.codec import Codec

from tests.integrations.data_sets import Written, draw_key, write

if TYPE_CHECKING:
    from pathlib import Path

CASES = 200
ENCODED_CODECS = ("filters", "compressors", "serializer")


def open_as(written: Written, engine: str, **choices: Any) -> xr.Dataset:
    return xr.open_dataset(
        written.path,
        engine=engine,
        group=written.group,
        consolidated=written.consolidated,
        decode_timedelta=True,
        **choices,
    )


def as_document(codec: Any) -> Any:
    """A codec as in v3's metadata; those of v2 are numcodecs' with both engines."""
    document = codec.to_dict() if isinstance(codec, Codec) else codec
    if isinstance(document, dict):
        return {"name": document["name"], "configuration": document.get("configuration", {})}
    return document


def comparable(encoding: dict[str, Any]) -> dict[str, Any]:
    """Encodings that are equal where they mean the same; NaN equals NaN."""
    found = {name: (type(value), str(value)) for name, value in encoding.items()}
    for name in ENCODED_CODECS:
        codecs = encoding.get(name, ())
        listed = codecs if isinstance(codecs, tuple) else (codecs,)
        found[name] = (tuple, str([as_document(codec) for codec in listed]))
    found["dtype"] = (np.dtype, np.dtype(encoding["dtype"]).str)
    return found


@pytest.mark.sampled(one_in=4)
@pytest.mark.parametrize("seed", range(CASES))
def test_both_engines_give_the_same(tmp_path: Path, seed: int) -> None:
    written = write(tmp_path / "data", seed)
    expected = open_as(written, "zarr")
    found = open_as(written, "gpuzarr", device="cpu")
    assert found.variables.keys() == expected.variables.keys()
    for name, variable in expected.variables.items():
        assert comparable(found[name].encoding) == comparable(variable.encoding), name
        assert found[name].dtype == variable.dtype, name
    expected.load()
    random = np.random.default_rng(seed)
    for kind in ("basic", "outer", "vectorised"):
        key = draw_key(random, expected, kind)
        xr.testing.assert_identical(found.isel(key), expected.isel(key))
    xr.testing.assert_identical(found, expected)


@pytest.mark.parametrize("seed", range(CASES, CASES + 5))
@pytest.mark.parametrize(
    "choice",
    [
        {"decode_cf": False},
        {"mask_and_scale": False},
        {"decode_times": False, "decode_coords": "all"},
        {"drop_variables": ["t", "area"]},
    ],
    ids=str,
)
def test_both_engines_decode_as_asked(tmp_path: Path, seed: int, choice: dict[str, Any]) -> None:
    written = write(tmp_path / "data", seed)
    expected = xr.open_dataset(
        written.path, engine="zarr", group=written.group, consolidated=False, **choice
    )
    found = xr.open_dataset(
        written.path, engine="gpuzarr", group=written.group, consolidated=False, **choice
    )
    xr.testing.assert_identical(found, expected)
