"""What a GPU was seen to do, kept in one file: observations are facts, not requirements.

The variable GPUZARR_OBSERVATIONS names the file; without it nothing is kept.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def observe(question: str, answer: Any) -> None:
    """Keep an answer."""
    name = os.environ.get("GPUZARR_OBSERVATIONS")
    if not name:
        return
    path = Path(name)
    known = json.loads(path.read_text()) if path.exists() else {}
    known[question] = answer
    path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
