"""`gpuzarr verify`: every bad chunk is named, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.cli import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpuzarr.cli.demo_data import DemoArray

    Run = Callable[..., tuple[int, str, str]]
    RunJson = Callable[..., tuple[int, Any]]


def test_good(arrays: dict[str, DemoArray], gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    for array in arrays.values():
        status, out, err = gpuzarr("verify", array.path)
        assert (status, err) == (0, "")
        assert "all can be decoded" in out
    status, found = gpuzarr_json("verify", arrays["cells-v3"].path)
    assert (status, found["ok"], found["nchunks"]) == (0, True, 16)


@pytest.mark.parametrize("at_once", [1, 30_000, verify.READ_NBYTES])
def test_bad_chunks_are_named(
    at_once: int, group: Path, gpuzarr: Run, gpuzarr_json: RunJson, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "READ_NBYTES", at_once)
    status, out, _ = gpuzarr("verify", group)
    assert status == 1
    assert "inside/bad" in out
    assert "c/1/0/0" in out
    assert "c/4/0/0" in out
    assert "c/2/0/0" not in out
    status, found = gpuzarr_json("verify", group)
    assert status == 1
    assert found["bad_chunks"] == 2
    nodes = {node["path"]: node for node in found["nodes"]}
    assert nodes["wind"]["ok"]
    assert nodes["cells"]["ok"]
    bad = nodes["inside/bad"]
    assert [failure["coords"] for failure in bad["failures"]] == [[1, 0, 0], [4, 0, 0]]


def test_damaged_shard(group: Path, gpuzarr_json: RunJson) -> None:
    shard = group / "cells" / "c" / "0" / "1" / "1"
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1  # the index' checksum
    shard.write_bytes(damaged)
    status, found = gpuzarr_json("verify", group / "cells")
    assert status == 1
    assert {failure["key"] for failure in found["nodes"][0]["failures"]} == {"c/0/1/1"}


def test_nodes_that_cannot_be_opened(group: Path, gpuzarr: Run, gpuzarr_json: RunJson) -> None:
    (group / "wind" / "zarr.json").write_text("{")
    status, out, _ = gpuzarr("verify", group)
    assert status == 1
    assert "/wind" in out
    _, found = gpuzarr_json("verify", group)
    nodes = {node["path"]: node for node in found["nodes"]}
    assert nodes["wind"]["errors"][0]["type"] == "MetadataError"
    assert len(nodes["inside/bad"]["failures"]) == 2
