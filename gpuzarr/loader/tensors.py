"""Batches as PyTorch tensors, and a loader's batches split among the workers of a DataLoader.

Worker k of n reads batches k, k + n, ... of an epoch. Which epoch that is, the workers must find
out by themselves: a DataLoader starts them without a word to the dataset in the main process. So a
number in shared memory says which epoch was begun last, and in which iteration of the DataLoader.
The first worker of the next iteration counts on, and the others see that this is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from gpuzarr.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from gpuzarr.engines.engine import DeviceArray
    from gpuzarr.loader.loader import Loader

TENSOR_TYPES = (
    "bool",
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
    *("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    "float8_e8m0fnu",
)
"""dtypes that tensors can have; NumPy with ml_dtypes and PyTorch name them alike."""

INSTEAD = {
    "M": "take the numbers of dates: array.view('int64')",
    "m": "take the numbers of durations: array.view('int64')",
    "structured": "take one field: array[name]",
    **dict.fromkeys("OSTU", "strings and objects stay in NumPy"),
}
"""What to do about arrays of other dtypes, by their kind."""
OTHERWISE = "read the array with a dtype= that tensors have"

EPOCHS = 2**32
"""Epochs that the number in shared memory can tell apart."""
ITERATIONS = 2**31 - 1
"""The same for iterations of a DataLoader."""


def as_tensor(array: DeviceArray) -> Any:
    """A NumPy or CuPy array as a PyTorch tensor, in the array's own memory.

    >>> from gpuzarr.integrations.torch import as_tensor
    >>> as_tensor(gpuzarr.open_array(store, path="temperature")[1, :3])
    tensor([6., 7., 8.])

    Args:
        array: of any shape. Memory that is read-only or runs backwards is copied: a tensor cannot
            be either.

    Returns:
        `torch.Tensor` of the same shape and dtype, on the array's device.

    Raises:
        UnsupportedError: a dtype that tensors do not have: dates, strings, structured ones.
    """
    dtype = array.dtype
    tensor_type = getattr(torch, dtype.name, None) if dtype.name in TENSOR_TYPES else None
    if tensor_type is None or not dtype.isnative:
        reason = INSTEAD.get("structured" if dtype.names else dtype.kind, OTHERWISE)
        raise UnsupportedError(f"PyTorch has no tensors of dtype {dtype}", reasons=(reason,))
    read_only = isinstance(array, np.ndarray) and not array.flags.writeable
    if read_only or min(array.strides, default=0) < 0:
        array = array.copy()
    if dtype.isbuiltin == 1:
        return torch.from_dlpack(array)
    # DLPack does not know the dtypes of ml_dtypes.
    return torch.from_dlpack(array.view(f"u{dtype.itemsize}")).view(tensor_type)


def as_tensors(batch: Any) -> Any:
    """A batch of a loader, with tensors in place of its arrays."""
    return map_arrays(as_tensor, batch)


def map_arrays(function: Callable[[Any], Any], batch: Any) -> Any:
    """A batch of a loader, with a function's results in place of its arrays."""
    match batch:
        case dict():
            return {name: function(array) for name, array in batch.items()}
        case tuple():
            return tuple(map(function, batch))
        case _:
            return function(batch)


def check_process(loader: Loader) -> None:
    """Refuse to read on a GPU in a worker of a DataLoader.

    Raises:
        UnsupportedError: this is a worker, and the loader's arrays are on a GPU.
    """
    if get_worker_info() is not None and loader.devices != {"cpu"}:
        raise UnsupportedError(
            "workers of a DataLoader cannot hand over what they read into a GPU's memory",
            reasons=("take num_workers=0: a Loader reads ahead without, or device='cpu'",),
        )


class ZarrIterableDataset(IterableDataset):  # type: ignore[misc]  # PyTorch may be missing
    """The batches of a `gpuzarr.Loader` as tensors; `Loader.torch()` makes one.

    >>> array = gpuzarr.open_array(store, path="temperature")
    >>> dataset = gpuzarr.Loader(array, crop=(2, 2), batch_size=4, shuffle=True).torch()
    >>> [batch.shape for batch in dataset]
    [torch.Size([4, 2, 2]), torch.Size([2, 2, 2])]
    >>> from torch.utils.data import DataLoader
    >>> [batch.shape for batch in DataLoader(dataset, batch_size=None)]
    [torch.Size([4, 2, 2]), torch.Size([2, 2, 2])]

    Iterated as it is, or by a DataLoader without workers, it does what its loader does, and shares
    its position. This is the usual way: the loader reads and decodes in threads of its own.
    A DataLoader makes lists of tuples.

    With workers, `DataLoader(dataset, batch_size=None, num_workers=4)` gives the same batches in
    the same order; each worker reads ahead as its copy of the loader does. Every iteration of the
    DataLoader is the next epoch, also behind one that was left early. Change the epoch by the
    dataset's own methods and not by the loader's, between iterations. How far the consumer is, is
    then known to the workers alone: torchdata's StatefulDataLoader, which asks them, resumes in the
    middle of an epoch, and `state_dict` in the main process says where that was last set to.
    """

    def __init__(self, loader: Loader) -> None:
        """Take over a loader, and its position.

        Args:
            loader: whose batches; of arrays on a GPU only without workers.
        """
        self.loader = loader
        self._shared = torch.zeros(4, dtype=torch.int64).share_memory_()
        """How often the position was set, its epoch, its batch; and the last iteration since: its
        mark times `EPOCHS` plus its epoch, or 0."""
        self._begun: tuple[int, int] | None = None
        """In a worker: how often the position was set when it last began, and the epoch."""
        self._resumed = False
        """In a worker: its loader is where the state said, which it was given."""
        self._set()

    def __len__(self) -> int:
        """Batches of an epoch, on this rank."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        if worker is None:
            return map(as_tensors, self.loader)
        check_process(self.loader)
        self._begin(worker)
        return map(as_tensors, self.loader.iterate(worker.num_workers))

    def set_epoch(self, epoch: int) -> None:
        """Make the next iteration this epoch, from its beginning; workers that wait hear of it."""
        self.loader.set_epoch(epoch)
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """Where the consumer is: what `load_state_dict` needs to go on behind the last batch."""
        state = self.loader.state_dict()
        if get_worker_info() is not None:  # a share that is read is not yet the next epoch
            progress = self.loader.progress
            state |= {"epoch": progress.epoch, "batch": progress.batches}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next iteration go on where a dataset was that gave this state.

        Raises:
            ValueError: it was of another order: other windows, seed, ranks or batches.
        """
        self.loader.load_state_dict(state)
        if get_worker_info() is None:
            self._set()
        else:
            self._resumed = True

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._shared.share_memory_()  # after a plain pickle it is this process's alone

    def _set(self) -> None:
        """Tell the workers to come, and those that wait, where the loader is."""
        state = self.loader.state_dict()
        times = int(self._shared[0]) + 1
        self._shared.copy_(torch.tensor([times, state["epoch"], state["batch"], 0]))

    def _begin(self, worker: Any) -> None:
        """Bring a worker's loader to the first batch of its share of this iteration."""
        times, epoch, batch, last = self._shared.tolist()
        mark = (worker.seed - worker.id) % ITERATIONS + 1  # the workers of an iteration have one
        if self._begun is not None and self._begun[0] == times:
            epoch, batch = self._begun[1] + 1, 0
        elif last:
            last_mark, last_epoch = divmod(last, EPOCHS)
            batch = batch if (last_mark, last_epoch) == (mark, epoch) else 0
            epoch = last_epoch + (last_mark != mark)
        if self._resumed:
            epoch = self.loader.state_dict()["epoch"]
        else:
            self.loader.set_epoch(epoch, batch + worker.id)
        self._resumed, self._begun = False, (times, epoch)
        self._shared[3] = mark * EPOCHS + epoch
