"""A plugin of pytest, `-p tests.gpu.without_pool`: each allocation is one of CUDA's own.

In CuPy's pool arrays lie side by side and are used over and over, so that compute-sanitizer takes
an access beside one of them, or a read of what nobody has written, for a good one.
"""

from __future__ import annotations


def pytest_configure() -> None:
    """Do without the pool."""
    import cupy  # noqa: PLC0415  doctests are looked for in here, also where there is none

    cupy.cuda.set_allocator(None)
