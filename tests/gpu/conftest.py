"""Small arrays are decoded on the GPU here, also where the cost model would choose the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cuda_devices import DEVICE_WINS, with_rates

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _device_decodes() -> Iterator[None]:
    with with_rates(DEVICE_WINS):
        yield
