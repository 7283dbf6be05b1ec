"""One epoch of a loader, or the rest of one, and how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpuzarr.loader.epoch import Epoch
    from gpuzarr.loader.prefetch import Prefetch
    from gpuzarr.loader.variables import Variables


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an epoch is."""

    epoch: int
    batches: int
    """Batches that lie behind the consumer."""
    of: int
    """Batches of the epoch."""
    windows: int
    """Windows in them."""
    nbytes: int
    """Bytes in them."""
    seconds: float
    """Since the iteration began."""
    waited: float
    """Of these, seconds in which the consumer waited for a batch."""

    def __str__(self) -> str:
        rate = self.nbytes / self.seconds / 1e6 if self.seconds else 0.0
        waited = self.waited / self.seconds if self.seconds else 0.0
        return (
            f"epoch {self.epoch}: {self.batches:,} of {self.of:,} batches, {rate:,.0f} MB/s, waited"
            f" {waited:.0%} of {self.seconds:.1f} s"
        )


class LoaderIterator:
    """The batches of an epoch, all or each `step`-th; `close` ends it early."""

    def __init__(  # noqa: PLR0913, PLR0917  everything that an iteration is made of
        self,
        batches: Prefetch[list[Any]],
        variables: Variables,
        epoch: Epoch,
        first: int,
        step: int,
        tell: Callable[[LoaderIterator], None],
    ) -> None:
        """Take over batches that are read.

        Args:
            batches: the arrays of each.
            variables: what they are of.
            epoch: which they are of.
            first: number of the first.
            step: from the number of one to that of the next.
            tell: called when a batch goes to the consumer.
        """
        self._batches = batches
        self._variables = variables
        self._epoch = epoch
        self._step = step
        self._tell = tell
        self._began = time.perf_counter()
        self.progress = Progress(epoch.number, first, epoch.rules.nbatches, 0, 0, 0.0, 0.0)

    def __iter__(self) -> Self:
        return self

    def __len__(self) -> int:
        """Batches that are left."""
        return len(range(self.progress.batches, self.progress.of, self._step))

    def __next__(self) -> Any:
        began = time.perf_counter()
        results = next(self._batches)
        now = time.perf_counter()
        before = self.progress
        self.progress = Progress(
            before.epoch,
            min(before.batches + self._step, before.of),
            before.of,
            before.windows + self._epoch.batch_size_of(before.batches),
            before.nbytes + sum(int(result.nbytes) for result in results),
            now - self._began,
            before.waited + now - began,
        )
        self._tell(self)
        return self._variables.batch(results)

    def close(self) -> None:
        """End the reading ahead, and wait for its end."""
        self._batches.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
