"""What all tests share: hypothesis' effort, and which tests run where."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from gpuzarr import few
from gpuzarr.engines.cpu import boxes, engine, session, task
from gpuzarr.engines.cuda.availability import DRIVER_FILES

# Helpers assert, too, and shall tell what they saw.
pytest.register_assert_rewrite(
    *(f"tests.{place.stem}" for place in Path(__file__).parent.iterdir() if place.stem[0] != "_")
)

from tests import doctest_store  # noqa: E402
from tests.effort import ALL, FULL, USUAL, sample  # noqa: E402
from tests.gpu import MARKED  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRE_GPU = os.environ.get("GPUZARR_REQUIRE_GPU") == "1"
ROOT = Path(__file__).parents[1]
DRIVER = any(Path(file).exists() for file in DRIVER_FILES)

# Programs that write fixtures with libraries of their own environments; nothing in them is a test.
collect_ignore_glob = ["conformance/writers/*"]

# No deadline: the machines that run these are shared. A fixed seed: a run says the same twice.
settings.register_profile(
    "usual",
    max_examples=USUAL,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "full", settings.get_profile("usual"), max_examples=ALL, derandomize=False
)
settings.load_profile("full" if FULL else "usual")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT interrupts Python: what a shell runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_configure(config: pytest.Config) -> None:
    """Doctests lie outside this folder, so what they need is registered for everything."""
    config.pluginmanager.register(doctest_store, "gpuzarr-doctest-store")
    # Small arrays shall be read as large ones are: in many batches, by many threads.
    engine.BATCH_NBYTES = 1 << 15
    session.LEAST_NBYTES = 0
    task.WORK_NBYTES = 1 << 10
    boxes.LEAST_PIECES = 3
    # ... and not as a few chunks are; tests/test_few.py and the conformance tests do that.
    few.MOST_CHUNKS = 0


def pytest_collection_finish() -> None:
    """What was collected stays: the garbage collector need not look at it, test after test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what cannot or shall not run here; what is long comes first."""
    config.stash[MARKED] = {
        item.path.relative_to(ROOT).as_posix() for item in items if _needs_gpu(item)
    }
    without = {item for item in items if _needs_gpu(item) and not (REQUIRE_GPU or DRIVER)}
    if not (FULL or REQUIRE_GPU):  # on a GPU, that is seldom there, all are run
        alike = [item for item in items if item.get_closest_marker("sampled")]
        without.update(set(alike) - sample(alike, _how_many))
    config.hook.pytest_deselected(items=[item for item in items if item in without])
    items[:] = [item for item in items if item not in without]
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail where a GPU is required and there is none."""
    if _needs_gpu(item) and not DRIVER:
        pytest.fail("GPUZARR_REQUIRE_GPU=1, and there is no NVIDIA driver", pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where a GPU is required, what is marked for it may not be skipped."""
    outcome: Any = yield
    report = outcome.get_result()
    if REQUIRE_GPU and report.skipped and _needs_gpu(item) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where a GPU is required: {report.longrepr}"


def _needs_gpu(item: pytest.Item) -> bool:
    return item.get_closest_marker("gpu") is not None


def _how_many(alike: list[pytest.Item]) -> int:
    """Of a test that is sampled one parameter in so many, and one at least."""
    marker = alike[0].get_closest_marker("sampled")
    return -(-len(alike) // marker.kwargs["one_in"]) if marker else len(alike)
