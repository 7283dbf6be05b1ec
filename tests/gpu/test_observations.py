"""The tables that are made of a GPU's answers, with the fake device's answers in their place."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cuda_devices import fake
from tests.gpu import hostile, questions
from tests.gpu.own_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["fake"]  # a fixture


def tables(file: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "observations.py"), str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_seen_is_said(tmp_path: Path) -> None:
    lines = tables(tmp_path / "observations.json")
    assert [line.count("not seen on a GPU yet") for line in lines] == [0, 0, *[1] * 6, 0]


@pytest.mark.usefixtures("fake")
def test_answers_become_tables(tmp_path: Path) -> None:
    file = tmp_path / "observations.json"
    asked = [*[q for q in questions.DAMAGED if "zstd" in q], *questions.OPEN]
    found: dict[str, Any] = {question: questions.answer_to(question) for question in asked}
    damage = "cut to a half"
    for name in ("gzip", "blosc blosclz shuffle"):
        found[f"read of {name}: {damage}"] = hostile.read_damaged(name, damage)
    file.write_text(json.dumps(found))
    rows = {line.split(" | ")[0].strip("| "): line for line in tables(file)}
    assert f"of {len(questions.DAMAGE)} refused" in rows["zstd"]
    assert "the context survived" in rows["zstd"]
    assert "not seen" in rows["LZ4"]
    assert "1 DecodeError" in rows["blosclz"]
    assert "2 of 2 right" in rows["gzip"]
    assert "verdict: refused" in rows["zstd without a size"]
    assert set(questions.OPEN) <= set(rows)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (
            [{"process": "exit status -6"}],
            "1 of 1 with an error or no answer; the context was lost 1",
        ),
        (
            [
                {"verdict": "wrong data", "context survives": True, "guards": False},
                {"verdict": "another size", "context survives": False, "neighbour right": False},
            ],
            "1 wrong data, called good, 1 wrote beside the output, 1 spoilt the stream beside; the",
        ),
    ],
)
def test_what_is_told_of_damage(
    answers: list[dict[str, Any]], expected: str, tmp_path: Path
) -> None:
    file = tmp_path / "observations.json"
    file.write_text(json.dumps({f"damaged gzip: {i}": a for i, a in enumerate(answers)}))
    assert [line for line in tables(file) if line.startswith("| gzip |") and expected in line]
