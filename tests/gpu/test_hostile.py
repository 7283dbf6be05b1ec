"""Damaged arrays of every format, read on a real GPU, each in a process of its own."""

from __future__ import annotations

import pytest

from tests.gpu.hostile import DAMAGE, FOREIGN, FORMATS, RIGHT, WRONG
from tests.gpu.observed import observe
from tests.gpu.own_process import DIED, ask

LOST = "DeviceError"
"""What reads give from then on, where the CUDA context is lost."""


def require(name: str, seen: dict[str, str]) -> None:
    """Errors are gpuzarr's; data that a checksum covers are never wrong; good data never are."""
    assert DIED not in seen, seen
    assert not [found for found in seen.values() if found.startswith(FOREIGN)], seen
    if FORMATS[name].checked:
        assert WRONG not in (seen["gpu"], seen["gpu alone"]), seen
    for read, after in (("gpu", "good after"), ("gpu alone", "good at last")):
        assert seen[after] == RIGHT or LOST in (seen[read], seen["gpu"]), seen


@pytest.mark.gpu
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_an_error_or_harmless(name: str, damage: str) -> None:
    seen = ask("tests.gpu.hostile", name, damage)
    observe(f"read of {name}: {damage}", seen)
    require(name, seen)
