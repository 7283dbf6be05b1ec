"""What compute-sanitizer is tried on: `python -m tests.gpu.sanitizer_probe good|bad`.

The good kernel shows whether a tool works with this driver at all, the bad one, which writes behind
its memory, whether memcheck sees it.
"""

from __future__ import annotations

import sys

SOURCE = """
extern "C" __global__ void put(int *values, long long place) { values[place + threadIdx.x] = 1; }
"""


def put(beyond: int) -> bool:
    """Write 32 numbers, some places behind where they belong; whether they are there then."""
    import cupy  # noqa: PLC0415  doctests are looked for in here, also where there is none

    cupy.cuda.set_allocator(None)
    values = cupy.zeros(32, cupy.int32)
    cupy.RawKernel(SOURCE, "put")((1,), (32,), (values, cupy.int64(beyond)))
    cupy.cuda.Device().synchronize()
    return bool(values.sum() == values.size)


if __name__ == "__main__":
    right = put(beyond=0 if sys.argv[1] == "good" else 32)
    sys.exit(None if right else "the numbers are not where they belong")
