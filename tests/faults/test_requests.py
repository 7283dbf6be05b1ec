"""What a reader asks of a store that fails: it does not try again in the hope of a better answer.

Two things are done again, once, and are counted here. A read of a few chunks, which knows no
failures, leaves all that is odd to the read with columns. And where anything of a shard fails whose
index is remembered, the index is read anew, since the shard may have been replaced.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import gpuzarr
from tests.faults.cases import ENGINES, LAYOUTS, VALUES, engine, objects
from tests.faults.faulty import EagerFaultyStore, Fault, FaultyStore

PLAIN = [layout for layout in LAYOUTS.values() if not layout.sharding]
STORES = [FaultyStore, EagerFaultyStore]


@pytest.mark.parametrize("make", STORES)
@pytest.mark.parametrize("name", ENGINES)
def test_a_permanent_error_is_asked_for_once(name: str, make: type[FaultyStore]) -> None:
    most = 2 if "few" in name and make is FaultyStore else 1
    with engine(name) as opened:
        for layout in PLAIN:
            values = layout.stored()
            for kind in ("StoreError", "EIO", "short"):
                store = make(values, *(Fault(kind, key) for key in objects(values)[1:3]))
                array = opened(store)
                store.taken()
                with pytest.raises((gpuzarr.ChunkError, gpuzarr.StoreError)):
                    array[...]
                asked = Counter(key for key, _, _ in store.taken())
                assert set(asked.values()) <= set(range(1, most + 1)), (layout.name, kind, asked)
                assert set(asked) == set(objects(values)), "not all failures were looked for"


@pytest.mark.parametrize("make", STORES)
@pytest.mark.parametrize("name", ENGINES)
def test_a_passing_error_is_told(name: str, make: type[FaultyStore]) -> None:
    """And not healed behind the back of whoever looks after the store."""
    repeats = "few" in name and make is FaultyStore
    with engine(name) as opened:
        for layout in PLAIN:
            values = layout.stored()
            key = objects(values)[2]
            store = make(values)
            array = opened(store)
            for _ in range(2):
                store.faults, store.hits = [Fault("EIO", key, times=2 if repeats else 1)], {}
                with pytest.raises(gpuzarr.StoreError) as raised:
                    array[...]
                assert raised.value.key == key
                np.testing.assert_array_equal(np.asarray(array[...]), VALUES)


@pytest.mark.parametrize("name", ENGINES)
def test_of_a_shard_no_more_is_asked_than_its_index_and_its_chunks_once_more(name: str) -> None:
    with engine(name) as opened:
        for layout in LAYOUTS.values():
            if not layout.sharding:
                continue
            values = layout.stored()
            key = objects(values)[0]
            inside = np.ones(layout.chunks).size // np.ones(layout.grid).size
            for after in range(4):
                store = FaultyStore(values, Fault("StoreError", key, after=after))
                array = opened(store)
                store.taken()
                try:
                    np.testing.assert_array_equal(np.asarray(array[...]), VALUES)
                except gpuzarr.StoreError as error:
                    assert error.key == key  # noqa: PT017  the other answer is right, too
                else:
                    assert after, "the storage failed, and nobody said so"
                asked = Counter(asked for asked, _, _ in store.taken())
                levels, looks = len(layout.sharding), 3 if "few" in name else 2
                indexes = sum(
                    np.ones(layout.chunks).size // np.ones(level.chunk_shape).size
                    for level in layout.sharding[:-1]
                )
                assert asked[key] <= looks * (levels + indexes + inside)
                store.faults = []
                np.testing.assert_array_equal(np.asarray(array[...]), VALUES)


@pytest.mark.parametrize("name", ENGINES)
def test_all_failures_of_all_kinds_are_told_at_once(name: str) -> None:
    rng = np.random.default_rng(sorted(ENGINES).index(name))
    with engine(name) as opened:
        for layout in LAYOUTS.values():
            if not layout.checked:
                continue
            values = layout.stored()
            keys = objects(values)
            for _ in range(4):
                bad = rng.choice(keys, 3 if len(keys) > 3 else 2, replace=False).tolist()
                faults = [
                    Fault(kind, key)
                    for kind, key in zip(("EIO", "wrong", "short"), bad, strict=False)
                ]
                array = opened(FaultyStore(values, *faults))
                out = np.zeros(VALUES.shape, VALUES.dtype)
                with pytest.raises(gpuzarr.ChunkError) as raised:
                    array.read(out=out)
                failures = raised.value.failures
                assert {failure.key for failure in failures} == set(bad)
                assert len({failure.coords for failure in failures}) == len(failures)
                # What did not fail is there.
                good = np.ones(VALUES.shape, np.bool_)
                for key in bad:
                    good[layout.box(key)] = False
                np.testing.assert_array_equal(out[good], VALUES[good])


@pytest.mark.parametrize("name", ["cpu", "cpu, threads", "cuda"])
def test_arrays_of_a_read_fail_and_are_right_each_for_itself(name: str) -> None:
    """A read of several arrays and stores: what is whole lies in `out`."""
    with engine(name) as opened:
        for layout in LAYOUTS.values():
            values = layout.stored()
            key = objects(values)[-1]
            stores = [FaultyStore(values), FaultyStore(values, Fault("StoreError", key))]
            stores.append(FaultyStore(layout.stored(path="a")))
            arrays = [opened(stores[0]), opened(stores[1]), opened(stores[2], "a")]
            outs = [np.zeros(VALUES.shape, VALUES.dtype) for _ in arrays]
            with pytest.raises(gpuzarr.StoreError) as raised:
                gpuzarr.read_batch([(array, ...) for array in arrays], out=outs)
            assert (raised.value.key, raised.value.store) == (key, "faulty")
            for out in outs[0], outs[2]:
                np.testing.assert_array_equal(out, VALUES)
            good = np.ones(VALUES.shape, np.bool_)
            good[layout.box(key)] = False
            np.testing.assert_array_equal(outs[1][good], VALUES[good])
            stores[1].faults = []
            found = gpuzarr.read_batch([(array, ...) for array in arrays])
            np.testing.assert_array_equal(np.asarray(found), np.stack([VALUES] * 3))
