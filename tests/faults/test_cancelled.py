"""Asynchronous reads that are cancelled or time out: they end, and the array works on."""

from __future__ import annotations

from tests.faults.programs import check_program


def test_cancelled_and_late_reads() -> None:
    code = """
use_many_threads()
async def main(array):
    cancelled = late = 0
    for attempt in range(60):
        task = asyncio.create_task(array.getitem((slice(attempt % 7, None), ...)))
        await asyncio.sleep(0 if attempt % 3 == 0 else 0.0004 * (attempt % 11))
        task.cancel()
        try:
            assert (await task == NUMBERS[attempt % 7:]).all()
        except asyncio.CancelledError:
            cancelled += 1
        try:
            found = await asyncio.wait_for(array.getitem(...), 0.0005 * (attempt % 13))
            assert (found == NUMBERS).all()
        except asyncio.TimeoutError:
            late += 1
        if attempt % 10 == 0:
            try:
                await asyncio.wait_for(asyncio.to_thread(array.__getitem__, slice(0, 50)), 0.001)
            except asyncio.TimeoutError:
                pass
    assert cancelled and late, (cancelled, late)
    parts = await asyncio.gather(*(array.getitem(slice(i, i + 20)) for i in range(0, 120, 20)))
    assert (np.concatenate(parts) == NUMBERS).all()

for values in (plain(), sharded()):
    store = WatchedStore(values, 0.0005)
    array = gpuzarr.open_array(store, threads=3)
    asyncio.run(main(array))  # in the end it waits for the threads that were given up
    drain()
    store.taken()
    drain()
    assert not store.taken()
    assert (array[...] == NUMBERS).all()
print("done")
"""
    check_program(code)


def test_a_cancelled_read_leaves_out_what_is_left() -> None:
    """The store is asked for no more than what was under way."""
    code = """
use_many_threads()
async def main():
    gate = threading.Event()
    store = WatchedStore(plain(), 0.0, lambda: gate.wait(60))
    array = gpuzarr.open_array(store, threads=1)
    task = asyncio.create_task(array.getitem(...))
    await asyncio.to_thread(store.asked.wait)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("not cancelled")
    gate.set()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert store.count <= 2, store.count
    assert (array[...] == NUMBERS).all()
asyncio.run(main())
print("done")
"""
    check_program(code)


def test_a_failed_read_among_others() -> None:
    code = """
async def main():
    array = gpuzarr.open_array({**plain(), "c/2/2": b"damaged"}, threads=2)
    reads = [array.getitem(slice(i, i + 20)) for i in range(0, 120, 20)]
    results = await asyncio.gather(*reads, return_exceptions=True)
    for number, result in enumerate(results):
        if number == 2:
            assert [failure.key for failure in result.failures] == ["c/2/2"]
        else:
            assert (result == NUMBERS[20 * number : 20 * number + 20]).all()
asyncio.run(main())
print("done")
"""
    check_program(code)
