"""What a loader reads, decodes and holds, and how it explains that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.loader import loader as loader_module
from tests.arrays import CountingStore, plain_store
from tests.loader.crops import CROP, NUMBERS, SHARDED, opened, origins


def test_with_a_cache_an_epoch_decodes_every_chunk_once() -> None:
    store = CountingStore(SHARDED)
    loader = gpuzarr.Loader(
        opened(store=store), crop=CROP, batch_size=3, shuffle=True, cache_nbytes=NUMBERS.nbytes
    )
    store.reads.clear()
    origins(loader)
    wanted = sorted((key, offset) for key, offset, _ in store.reads if offset >= 0)
    assert len(wanted) == len(set(wanted))
    store.reads.clear()
    origins(loader)
    assert store.reads == []


def test_explain_tells_what_the_cache_and_locality_save() -> None:
    def waste(**more: Any) -> float:
        loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=3, shuffle=True, **more)
        report = loader.explain()
        assert report.windows == 40
        assert "chunks" in str(report)
        assert report.to_dict()["decode_waste"] == report.decode_waste
        return report.decode_waste

    alone = waste()
    cached = waste(cache_nbytes=2400)
    near = waste(cache_nbytes=2400, locality=1)
    assert alone > cached > near
    assert waste(cache_nbytes=NUMBERS.nbytes) == pytest.approx(1.0, abs=0.2)


def test_explain_says_when_the_cache_is_too_small_for_the_groups() -> None:
    def notes(**more: Any) -> str:
        loader = gpuzarr.Loader(opened(), crop=(1, 48), batch_size=4, shuffle=True, **more)
        return str(loader.explain())

    assert "locality= keeps windows together" in notes(cache_nbytes=2000)
    assert "a smaller locality=" in notes(cache_nbytes=2000, locality=2)
    assert "a smaller locality=" not in notes(cache_nbytes=NUMBERS.nbytes, locality=2)


def test_an_array_that_is_two_variables_has_one_cache() -> None:
    array = opened()
    choices: dict[str, Any] = {"crop": CROP, "batch_size": 4, "cache_nbytes": 2400}
    loader = gpuzarr.Loader({"a": array, "b": array}, **choices)
    for batch in loader:
        assert np.array_equal(batch["a"], batch["b"])
    caches = (loader._caches or {}).values()  # noqa: SLF001  nobody else tells
    assert [cache.nbytes for cache in caches] == [2400]


def test_explain_agrees_with_what_is_read() -> None:
    store = CountingStore(plain_store(NUMBERS, (5, 6)))
    loader = gpuzarr.Loader(
        opened(store=store), crop=CROP, batch_size=3, shuffle=True, locality=2, cache_nbytes=1200
    )
    report = loader.explain(batches=100)
    store.reads.clear()
    origins(loader)
    # Chunks of one batch do not push out each other, which the estimate leaves out.
    assert abs(len(store.reads) - report.chunks) <= report.chunks // 4


def test_the_memory_limit_is_for_all_that_a_loader_holds(fake: Any) -> None:
    choices: dict[str, Any] = {"crop": CROP, "batch_size": 4, "prefetch": 2}
    batch = 4 * 8 * 6 * 4
    with pytest.raises(gpuzarr.MemoryLimitError, match="2 batches of 768 bytes and a cache of 500"):
        gpuzarr.Loader(opened(), memory_limit=2000, cache_nbytes=500, **choices)
    loader = gpuzarr.Loader(opened("cuda"), memory_limit=2 * batch + 40_000, **choices)
    assert len(origins(loader)) == 40
    del fake


@pytest.mark.parametrize(
    ("batch_size", "ahead"),
    [(1, 8), (5, 8), (6, 6), (10, 4), (16, 2), (40, 2)],  # of 192 bytes: 8 batches of 5 are 7,680
)
def test_small_batches_are_read_further_ahead(
    batch_size: int, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader_module, "AHEAD_NBYTES", 8000)
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=batch_size)
    assert loader.prefetch == ahead
    assert loader.explain().held_nbytes == ahead * loader.batch_nbytes


def test_reading_ahead_leaves_half_of_the_memory_to_reading() -> None:
    def loader(**choices: Any) -> gpuzarr.Loader:
        return gpuzarr.Loader(opened(), crop=CROP, batch_size=4, **choices)

    batch = loader().batch_nbytes
    assert loader(memory_limit=10 * batch).prefetch == 5
    assert loader(memory_limit=10 * batch, cache_nbytes=4 * batch).prefetch == 3
    assert loader(memory_limit=100 * batch).prefetch == 8
    assert loader(memory_limit=2 * batch).prefetch == 1
    with pytest.raises(gpuzarr.MemoryLimitError, match="1 batches of 768 bytes"):
        loader(memory_limit=batch)


def test_progress_tells_how_far_an_epoch_is() -> None:
    loader = gpuzarr.Loader(opened(), crop=CROP, batch_size=15)
    batches = iter(loader)
    assert len(batches) == 3
    next(batches)
    assert (loader.progress.batches, loader.progress.of, loader.progress.windows) == (1, 3, 15)
    assert loader.progress.nbytes == 15 * 8 * 6 * 4
    assert str(loader.progress).startswith("epoch 0: 1 of 3 batches, ")
    assert len(batches) == 2
    list(batches)
    assert loader.progress.windows == 40
    assert 0 <= loader.progress.waited <= loader.progress.seconds
