"""Where the bytes of a batch's chunks are, step after step, and how they lie there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gpuzarr.engines.cuda.layout import slots
from gpuzarr.engines.cuda.transfer import ChunkColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gpuzarr.engines.cuda.work import Work


class ChunkState:
    """The chunks between two steps, and the work that has brought them there.

    A step reads `address`, `nbytes`, `typesize` and `block`, adds to `work`, and says by `move` and
    `nbytes` where it leaves the bytes.
    """

    def __init__(  # noqa: PLR0913  what a batch is made of
        self,
        work: Work,
        *,
        images: tuple[int, int],
        status: int,
        value: int,
        address: NDArray[np.int64],
        nbytes: NDArray[np.int64],
        shapes: NDArray[np.int64],
        encoded: NDArray[np.bool_],
        image_nbytes: NDArray[np.int64],
    ) -> None:
        """Start with the chunks as they lie in staging.

        Args:
            work: to add to.
            images: addresses of its images.
            status: address of the chunks' statuses.
            value: address of a place for a checksum of each.
            address: (n,) addresses of the chunks.
            nbytes: (n,) their bytes.
            shapes: (n, ndim) their shapes.
            encoded: (n,) whether the device's steps are still to be run on them; the host has
                decoded the others.
            image_nbytes: (n,) bytes of each chunk's slot in an image.
        """
        n = len(address)
        self.work = work
        self.shapes = shapes
        self.encoded = np.flatnonzero(encoded)
        self.address = address.copy()
        self.nbytes = nbytes.copy()
        self.typesize = np.zeros(n, np.int64)
        """Of chunks that are byte-shuffled still, the bytes of an element, else 0..."""
        self.block = np.zeros(n, np.int64)
        """...and the bytes of the blocks that were shuffled one by one."""
        self.status = status
        self.value = value
        self._slot = slots(image_nbytes)[0]
        self._images = np.array(images, np.int64)
        self._next = np.zeros(n, np.int64)  # for each chunk, the image that it is not in

    def next_slots(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Addresses to take some chunks to: their slots in the image that they are not in.

        Chunks of a batch may be in different ones, for not all take the same steps.
        """
        there = self._images[self._next[rows]] + self._slot[rows]
        self._next[rows] = 1 - self._next[rows]
        return there

    def move(self, rows: NDArray[np.int64], address: NDArray[np.int64]) -> None:
        """The bytes of some chunks are elsewhere now, and not shuffled."""
        self.address[rows] = address
        self.typesize[rows] = 0

    def columns(self) -> ChunkColumns:
        """Where the chunks are, as columns of the table."""
        work = self.work
        return ChunkColumns(
            work.integers(self.address),
            work.integers(self.nbytes),
            work.integers(self.typesize),
            work.integers(self.block),
            bool(self.typesize.any()),
        )
