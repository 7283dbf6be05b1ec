"""The names that users import. Changing this list is a decision, not an accident."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path

import gpuzarr
from gpuzarr import errors

NAMES = [
    "Array",
    "Blob",
    "ChecksumError",
    "ChunkError",
    "ChunkFailure",
    "DecodeError",
    "DeviceError",
    "GpuzarrError",
    "Group",
    "Loader",
    "MemoryLimitError",
    "MetadataError",
    "NotFoundError",
    "PendingRead",
    "SelectionError",
    "Store",
    "StoreError",
    "UnsupportedError",
    "open",
    "open_array",
    "open_group",
    "read_batch",
]

ARRAY = """
    shape dtype ndim size nbytes chunks shards fill_value attrs dimension_names metadata zarr_format
    path name store device engine nchunks info oindex vindex blocks read read_async
    refresh getitem explain
"""
GROUP = """
    keys values items get arrays groups members tree attrs metadata path name store zarr_format
"""


def test_names() -> None:
    assert sorted(gpuzarr.__all__) == sorted(NAMES)
    assert all(getattr(gpuzarr, name) is not None for name in NAMES)


def test_every_error_is_public() -> None:
    tree = {
        name
        for name, member in vars(errors).items()
        if inspect.isclass(member) and issubclass(member, errors.GpuzarrError)
    }
    assert tree <= set(NAMES)


def test_members() -> None:
    assert not set(ARRAY.split()) - set(dir(gpuzarr.Array))
    assert not set(GROUP.split()) - set(dir(gpuzarr.Group))


def test_public_things_are_documented() -> None:
    for name in NAMES:
        assert inspect.getdoc(getattr(gpuzarr, name)), name


def test_version_is_the_packages_own() -> None:
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert gpuzarr.__version__ == tomllib.loads(project.read_text())["project"]["version"]
