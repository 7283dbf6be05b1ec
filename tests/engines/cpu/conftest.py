"""What several of these tests are run with."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from gpuzarr.engines.cpu import libzstd, zstd

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["libzstd", "zstandard"])
def zstd_library(request: pytest.FixtureRequest) -> Iterator[None]:
    """With the system's libzstd, and where there is none."""
    found = libzstd.load() if request.param == "libzstd" else None
    if request.param == "libzstd" and found is None:
        pytest.skip("this system has no libzstd")
    with patch.object(zstd, "library", lambda: found):
        yield
