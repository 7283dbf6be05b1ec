"""The corpus as a fixture: written lazily, once a session, into a temporary directory."""

from __future__ import annotations

import pytest

from .corpus import Corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """All cases of all writers."""
    return Corpus(tmp_path_factory.mktemp("conformance"))
