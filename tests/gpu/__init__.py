"""Tests of a real GPU, and which other files have some."""

import pytest

FILES = (
    "tests/conformance/test_cuda.py",
    "tests/engines/cuda/test_agreement.py",
    "tests/engines/cuda/test_joint_flights.py",
    "tests/gpu/test_hostile.py",
    "tests/gpu/test_nvcomp.py",
    "tests/gpu/test_reads.py",
    "tests/integrations/test_on_a_gpu.py",
    "tests/loader/test_loader.py",
    "tests/loader/test_sharing.py",
    "tests/test_chunk_cache.py",
    "tests/test_chunk_cache_failures.py",
    "tests/test_read_batch.py",
    "tests/test_read_batch_mixed.py",
    "tests/test_read_batch_failures.py",
)
"""All files with tests marked `gpu`. A GPU machine lacks what others import, and pytest runs none
where it cannot collect all, so it is given these alone."""

MARKED = pytest.StashKey[set[str]]()
"""The files that have some among those that were collected."""
