"""Batches split among the workers of a DataLoader: played in this process, and for real.

Skipped as test_torch.py is.
"""

from __future__ import annotations

import copy
import os
import pickle
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import gpuzarr
from tests.cuda_devices import fake
from tests.loader.programs import ALL, CROP, check_program, make_loader, numbers_store, origins

if os.environ.get("GPUZARR_REQUIRE_TORCH") != "1":
    pytest.importorskip("torch")

from gpuzarr.integrations.torch import ZarrDataset, ZarrIterableDataset
from gpuzarr.loader import tensors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fake"]


@pytest.fixture(scope="module")
def epochs() -> list[list[int]]:
    """What a loader reads, as NumPy arrays."""
    loader = make_loader(0)
    return [origins(loader) for _ in range(5)]


# ----------------------------------------------------------------------------- played, in any order


class Workers:
    """What a DataLoader's workers do, one after another and in any order."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, dataset: ZarrIterableDataset, count: int, seed: int
    ) -> None:
        self._patch, self._count, self._seed = monkeypatch, count, seed
        self.datasets = [copy.copy(dataset) for _ in range(count)]  # with the same shared memory
        for worker in self.datasets:
            worker.loader = pickle.loads(pickle.dumps(dataset.loader))  # noqa: S301  our own

    def be(self, number: int) -> ZarrIterableDataset:
        """From now on this process is that worker."""
        info = SimpleNamespace(id=number, num_workers=self._count, seed=self._seed + number)
        self._patch.setattr(tensors, "get_worker_info", lambda: info)
        return self.datasets[number]

    def leave(self) -> None:
        """This process is the main process again."""
        self._patch.setattr(tensors, "get_worker_info", lambda: None)

    def read(self, *order: int) -> list[int]:
        """An epoch; each worker begins when those before it in the order are done."""
        shares = {number: list(iter(self.be(number))) for number in order}
        self.leave()
        turns = range(max(map(len, shares.values())))
        return origins(
            shares[number][turn].numpy()
            for turn in turns
            for number in range(self._count)
            if turn < len(shares[number])
        )


def test_workers_share_each_epoch_however_late_they_begin(
    monkeypatch: pytest.MonkeyPatch, epochs: list[list[int]]
) -> None:
    """Other workers for each epoch, of another number."""
    dataset = make_loader(0).torch()
    for epoch, order in enumerate([(2, 0, 1), (1, 0), (0, 1, 2, 3, 4), (0,)]):
        workers = Workers(monkeypatch, dataset, len(order), seed=100 * epoch)
        assert workers.read(*order) == epochs[epoch]
    dataset.set_epoch(1)
    assert Workers(monkeypatch, dataset, 2, seed=7).read(1, 0) == epochs[1]
    assert Workers(monkeypatch, dataset, 2, seed=8).read(1, 0) == epochs[2]


def test_workers_that_stay_go_on_with_the_next_epoch(
    monkeypatch: pytest.MonkeyPatch, epochs: list[list[int]]
) -> None:
    dataset = make_loader(0).torch()
    workers = Workers(monkeypatch, dataset, 3, seed=5)
    assert [workers.read(0, 1, 2), workers.read(2, 0, 1)] == epochs[:2]
    for epoch in (1, 1, 3):
        dataset.set_epoch(epoch)
        assert workers.read(1, 2, 0) == epochs[epoch]
    assert workers.read(1, 2, 0) == epochs[4]


def test_an_epoch_that_is_left_early_is_not_continued_by_workers(
    monkeypatch: pytest.MonkeyPatch, epochs: list[list[int]]
) -> None:
    """Though one of its workers had not even begun."""
    dataset = make_loader(0).torch()
    next(iter(Workers(monkeypatch, dataset, 2, seed=1).be(0)))
    assert Workers(monkeypatch, dataset, 2, seed=2).read(1, 0) == epochs[1]


def test_workers_begin_where_the_state_in_the_main_process_was(
    monkeypatch: pytest.MonkeyPatch, epochs: list[list[int]]
) -> None:
    before, dataset = make_loader(0), make_loader(0).torch()
    batches = iter(before)
    seen = origins(next(batches) for _ in range(3))
    dataset.load_state_dict(before.state_dict())
    assert seen + Workers(monkeypatch, dataset, 2, seed=1).read(1, 0) == epochs[0]
    assert Workers(monkeypatch, dataset, 2, seed=2).read(1, 0) == epochs[1]


@pytest.mark.parametrize("taken", [(1, 1), (2, 1), (4, 3), (4, 4)])
def test_workers_resume_from_their_own_states(
    monkeypatch: pytest.MonkeyPatch, epochs: list[list[int]], taken: tuple[int, int]
) -> None:
    """As torchdata's StatefulDataLoader has them do; a share that is read stays so."""
    workers = Workers(monkeypatch, make_loader(0).torch(), 2, seed=1)
    again = Workers(monkeypatch, make_loader(0).torch(), 2, seed=2)
    seen = []
    for number, count in enumerate(taken):
        batches = iter(workers.be(number))
        seen += origins(next(batches).numpy() for _ in range(count))
        again.be(number).load_state_dict(workers.datasets[number].state_dict())
    assert sorted(seen + again.read(0, 1)) == ALL
    assert again.read(1, 0) == epochs[1]


@pytest.mark.usefixtures("fake")
def test_workers_do_not_read_into_the_memory_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    array = gpuzarr.open_array(numbers_store(), device="cuda")
    monkeypatch.setattr(
        tensors, "get_worker_info", lambda: SimpleNamespace(id=0, num_workers=1, seed=0)
    )
    windows = ZarrDataset(array, crop=CROP)
    batches = gpuzarr.Loader(array, crop=CROP, batch_size=4).torch()
    for read in (lambda: windows[0], lambda: iter(batches)):
        with pytest.raises(gpuzarr.UnsupportedError, match="num_workers=0"):
            read()


# ----------------------------------------------------------------------------------------- for real

PROGRAM = """
import torch
from torch.utils.data import DataLoader
from gpuzarr.integrations.torch import ZarrDataset

def numbers_in(batches):
    return origins(batch.numpy() for batch in batches)

def check(context):
    loader = make_loader(prefetch)
    epochs = [origins(loader) for _ in range(5)]
    dataset = make_loader(prefetch).torch()
    options = {"batch_size": None, "num_workers": 2, "multiprocessing_context": context}
    staying = DataLoader(dataset, persistent_workers=True, **options)
    assert [numbers_in(staying) for _ in range(2)] == epochs[:2]
    dataset.set_epoch(4)
    assert numbers_in(staying) == epochs[4]
    dataset.set_epoch(1)
    assert numbers_in(staying) == epochs[1]
    for batch in staying:
        assert batch.is_shared()
        break
    assert numbers_in(staying) == epochs[3]
    del staying
    other = DataLoader(dataset, **options)
    assert numbers_in(other) == epochs[4]
    MORE
    assert_quiet()
    print("done")

if __name__ == "__main__":
    check(CONTEXT)
"""

MORE = """
    dataset.set_epoch(0)
    assert [numbers_in(other) for _ in range(3)] == epochs[:3]
    again = pickle.loads(pickle.dumps(make_loader(prefetch).torch()))
    assert [numbers_in(DataLoader(again, **options)) for _ in range(2)] == epochs[:2]
    active = iter(make_loader(prefetch, SlowStore(0.002)).torch())
    seen = [next(active)]  # a thread reads ahead while workers are forked
    assert numbers_in(other) == epochs[3]
    assert numbers_in([*seen, *active]) == epochs[0]

    windows = ZarrDataset(gpuzarr.open_array(numbers_store()), crop=CROP)
    options |= {"batch_size": 5, "shuffle": True}
    assert sorted(numbers_in(DataLoader(windows, **options))) == ALL

    damaged = make_loader(prefetch, numbers_store() | {"c/5/5": b"too short"})
    try:
        list(DataLoader(damaged.torch(), batch_size=None, num_workers=2))
        raise AssertionError("no error")
    except RuntimeError as error:
        assert "at the windows [40:48, 36:48]" in str(error), error
"""


def program(context: str, *, more: bool) -> str:
    code = PROGRAM.replace("CONTEXT", repr(context))
    return code.replace("    MORE\n", MORE if more else "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("prefetch", [0, 2])
def test_forked_workers(prefetch: int) -> None:
    check_program(program("fork", more=True), prefetch)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_workers_of_a_fork_server(tmp_path: Path) -> None:
    ready = "import multiprocessing; multiprocessing.set_forkserver_preload(['torch', 'gpuzarr'])"
    check_program(ready + program("forkserver", more=False), script=tmp_path / "program.py")


def test_spawned_workers(tmp_path: Path) -> None:
    check_program(program("spawn", more=False), script=tmp_path / "program.py")
