"""Every target by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.hostile.fuzz.targets import (
    arrays,
    decoders,
    frames,
    metadata,
    selections,
    shards,
    stores,
    types,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.hostile.fuzz.target import Target

TARGETS: Final[Mapping[str, Target]] = {
    target.name: target
    for module in (metadata, types, selections, stores, shards, frames, decoders, arrays)
    for target in module.TARGETS
}
