"""PyTorch: arrays as tensors without a copy, and datasets for a DataLoader.

For training, `gpuzarr.Loader(...).torch()` reads whole batches ahead, and each chunk once for all
windows of a batch. `ZarrDataset` is for what wants single windows: samplers, subsets, transforms.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from gpuzarr.loader import Loader
from gpuzarr.loader.tensors import (
    ZarrIterableDataset,
    as_tensor,
    as_tensors,
    check_process,
    map_arrays,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuzarr.loader.loader import Windows
    from gpuzarr.loader.variables import Source

__all__ = ["ZarrDataset", "ZarrIterableDataset", "as_tensor"]


class ZarrDataset(Dataset):  # type: ignore[misc]  # PyTorch may be missing
    """Windows of an array, or of several, by their number: a map-style dataset.

    >>> from torch.utils.data import DataLoader
    >>> from gpuzarr.integrations.torch import ZarrDataset
    >>> dataset = ZarrDataset(gpuzarr.open_array(store, path="temperature"), crop=(2, 3))
    >>> len(dataset)
    4
    >>> dataset[3]
    tensor([[15., 16., 17.],
            [21., 22., 23.]])
    >>> [batch.shape for batch in DataLoader(dataset, batch_size=3)]
    [torch.Size([3, 2, 3]), torch.Size([1, 2, 3])]

    A DataLoader asks for all windows of a batch at once, which are one read: each chunk is fetched
    and decoded once. It pickles, and can be used after `fork()`; in workers only on the CPU.
    """

    def __init__(  # noqa: PLR0913  everything that chooses windows
        self,
        source: Source,
        *,
        crop: int | Sequence[int | None] | None = None,
        windows: Windows = "grid",
        stride: int | Sequence[int] | None = None,
        samples_per_epoch: int | None = None,
        seed: int = 0,
        dtype: Any = None,
        scale: Any = None,
        offset: Any = None,
    ) -> None:
        """Choose windows; nothing is read.

        Args:
            source: as in `gpuzarr.Loader`: an array; or several that are read at the same windows:
                a tuple or list (items are tuples), or a mapping or group (items are dicts).
            crop: elements of a window along each dimension; None or -1 for all of them.
            windows: "grid": all whole crops, `stride` apart; "random": `samples_per_epoch` places,
                drawn once; or a sequence of selections of one shape.
            stride: elements between windows of the grid; default `crop`.
            samples_per_epoch: for "random".
            seed: of the random places.
            dtype: of the items; a mapping by name, or a sequence, chooses for each variable.
            scale: as in `Array.read`, or for each variable.
            offset: as in `Array.read`, or for each variable.

        Raises:
            SelectionError: windows that do not fit into the array.
            UnsupportedError: a codec or conversion that is not available.
        """
        self._loader = Loader(
            source,
            batch_size=1,
            crop=crop,
            windows=windows,
            stride=stride,
            samples_per_epoch=samples_per_epoch,
            seed=seed,
            dtype=dtype,
            scale=scale,
            offset=offset,
        )

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._loader)

    def __getitem__(self, index: int) -> Any:
        """One window: a tensor of shape `crop`, or a tuple or dict of such."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indexes: Sequence[int]) -> list[Any]:
        """Several windows in one read; the tensors share memory, but do not overlap."""
        check_process(self._loader)
        batch = as_tensors(self._loader.read_windows(indexes))
        return [map_arrays(itemgetter(number), batch) for number in range(len(indexes))]
