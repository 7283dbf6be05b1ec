"""Two codecs: one that decodes bytes itself, and one that is made of steps that engines have.

example.run_length stores pairs of bytes, (how often, which byte). It runs on the CPU only.
example.shuffled_zstd is zstd over shuffled bytes under one name. Every engine runs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gpuzarr.program import Decompress, Step, Unshuffle

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunLength:
    """See `gpuzarr.codecs.plugins.DecodingCodec`."""

    def decode(
        self, encoded: memoryview, configuration: Mapping[str, Any], nbytes: int | None
    ) -> np.ndarray:
        """Write each byte as often as the one before it says."""
        del configuration
        pairs = np.frombuffer(encoded, np.uint8).reshape(-1, 2)
        counts = pairs[:, 0]
        # The data come from anyone: look at the size before making it.
        if nbytes is not None and int(counts.sum(dtype=np.int64)) != nbytes:
            raise ValueError(f"the runs are not {nbytes} bytes long")
        return np.repeat(pairs[:, 1], counts)


class ShuffledZstd:
    """See `gpuzarr.codecs.plugins.LoweringCodec`."""

    def lower(self, configuration: Mapping[str, Any]) -> tuple[Step, ...]:
        """Decompress, then put the bytes of each element together again."""
        return Decompress("zstd"), Unshuffle(int(configuration["elementsize"]))


codec = RunLength()
shuffled_zstd = ShuffledZstd()
