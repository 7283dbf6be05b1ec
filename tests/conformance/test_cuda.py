"""Every array of the corpus on a CUDA device: the same values as its writer's, or a clear refusal.

What arrays on a GPU cannot hold (text, dates, structures, objects) opens, and is refused when it is
read; fields of structures and dates as integers are read.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr import few
from tests.cuda_devices import assert_same, cuda

from .case import assert_equal
from .corpus import case_ids, describe
from .test_conformance import index, random_selections, take

if TYPE_CHECKING:
    from gpuzarr.engines.cuda.device import Device

    from .corpus import Corpus

__all__ = ["cuda"]  # a fixture


def open_on_cuda(case: Any, **choices: Any) -> Any:
    return gpuzarr.open_array(str(case.store), path=case.path, device="cuda", **choices)


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize(
    "case_id", [one for one in case_ids() if describe(one).demand in {"must", "peer"}]
)
def test_reads_as_written(
    corpus: Corpus, cuda: Device, case_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = take(corpus, case_id)
    expected = case.expected()
    array = open_on_cuda(case)
    key = ... if case.selection is None else case.selection
    if expected.dtype.hasobject or expected.dtype.kind == "T":
        with pytest.raises(gpuzarr.UnsupportedError, match='device="cpu"'):
            array[key]
        return
    if not cuda.holds(array.dtype):
        check_ways_out(array, expected, key)
        return
    assert_same(expected, array[key])
    by_host = open_on_cuda(case, decode="host")
    assert_same(expected, by_host[key])
    if case.selection is None:
        for some in random_selections(expected.shape, zlib.crc32(case_id.encode())):
            assert_same(np.asarray(index(expected, some)), array[some])
    monkeypatch.setattr(few, "MOST_CHUNKS", 128)
    assert_same(expected, by_host[key])


def check_ways_out(array: Any, expected: np.ndarray[Any, Any], key: Any) -> None:
    """A type that the GPU does not hold: the error names what works, and that works."""
    with pytest.raises(gpuzarr.UnsupportedError, match='device="cpu"') as raised:
        array[key]
    if expected.dtype.names is not None:
        for name in expected.dtype.names:
            if expected.dtype[name].kind in "iufc" and expected.dtype[name].shape == ():
                assert name in str(raised.value)
                assert_same(np.ascontiguousarray(expected[name]), array[name])
    elif expected.dtype.kind in "mM":
        assert "int64" in str(raised.value)
        assert_same(
            np.ascontiguousarray(expected).view(np.int64).reshape(expected.shape),
            array.read(key, dtype="int64"),
        )
    elif "float32" in str(raised.value):
        with np.errstate(all="ignore"):
            assert_equal(expected.astype(np.float32), np.asarray(array.read(key, dtype="float32")))


@pytest.mark.parametrize("case_id", [one for one in case_ids() if describe(one).demand == "refuse"])
@pytest.mark.usefixtures("cuda")
def test_refuses_cleanly(corpus: Corpus, case_id: str) -> None:
    case = take(corpus, case_id)
    error = getattr(gpuzarr, case.error) if case.error else gpuzarr.GpuzarrError
    with pytest.raises((error, gpuzarr.UnsupportedError)):
        _ = open_on_cuda(case)[...]
