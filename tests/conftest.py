"""What all tests share: hypothesis' effort, and which tests run where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from gpuzarr.engines.cpu import engine, session
from tests import doctest_store

FULL = os.environ.get("GPUZARR_TEST_FULL") == "1"
REQUIRE_GPU = os.environ.get("GPUZARR_REQUIRE_GPU") == "1"

# Programs that write fixtures with libraries of their own environments; nothing in them is a test.
collect_ignore_glob = ["conformance/writers/*"]

# No deadline: the machines that run these are shared. A fixed seed: a run says the same twice.
settings.register_profile(
    "usual", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "full", settings.get_profile("usual"), max_examples=1000, derandomize=False
)
settings.load_profile("full" if FULL else "usual")


def pytest_configure(config: pytest.Config) -> None:
    """Doctests lie outside this folder, so what they need is registered for everything."""
    config.pluginmanager.register(doctest_store, "gpuzarr-doctest-store")
    # Small arrays shall be read as large ones are: in many batches, by many threads.
    engine.LEAST_NBYTES = 1 << 12
    session.TINY_NBYTES = 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip slow tests unless everything is asked for."""
    if FULL:
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: set GPUZARR_TEST_FULL=1"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without a GPU, skip what needs one, or fail where one is required."""
    if item.get_closest_marker("gpu") and not Path("/proc/driver/nvidia/version").exists():
        if REQUIRE_GPU:
            pytest.fail("GPUZARR_REQUIRE_GPU=1, and there is no NVIDIA driver", pytrace=False)
        pytest.skip("no NVIDIA driver")
