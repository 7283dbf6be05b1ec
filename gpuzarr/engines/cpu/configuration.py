"""A step's configuration, read back from its canonical JSON."""

from __future__ import annotations

import json
from typing import Any


def load(configuration: str) -> dict[str, Any]:
    """The configuration as a new dict."""
    loaded = json.loads(configuration)
    return dict(loaded)
