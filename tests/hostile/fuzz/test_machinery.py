"""The fuzzer itself: it finds what is planted, says it once, and goes on."""

from __future__ import annotations

import json
import random
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from tests.hostile.fuzz import planted, watch
from tests.hostile.fuzz.__main__ import main
from tests.hostile.fuzz.campaign import Campaign
from tests.hostile.fuzz.coverage import Monitored, Traced, make_coverage
from tests.hostile.fuzz.draw import Draw
from tests.hostile.fuzz.fuzzer import Fuzzer
from tests.hostile.fuzz.mutation import Mutator, places
from tests.hostile.fuzz.target import Outcome, Target, normal_text
from tests.hostile.fuzz.watch import Finding, check_one

if TYPE_CHECKING:
    from pathlib import Path

PLANTED = "tests.hostile.fuzz.planted"


def test_errors_lead_to_what_is_behind_two_bytes() -> None:
    fuzzer = Fuzzer(planted.TARGETS["door"], 0)
    found = [fuzzer.step() for _ in range(10_000)]
    (finding,) = [each for each in found if each is not None]
    assert finding.data.startswith(planted.DOOR)
    assert "KeyError in tests/hostile/fuzz/planted.py, check_door" in finding.what
    assert fuzzer.count == 10_000


def test_a_bug_is_told_once() -> None:
    fuzzer = Fuzzer(planted.TARGETS["door"], 0, [planted.DOOR, planted.DOOR + b"bra"])
    first, second = fuzzer.step(), fuzzer.step()
    assert first is not None
    assert second is None
    assert fuzzer.outcomes["finding"] == 2
    assert list(fuzzer.findings) == [first.what]


def test_equal_seeds_make_equal_inputs() -> None:
    seen: list[list[bytes]] = [[], [], []]
    for row, seed in zip(seen, (1, 1, 2), strict=True):
        fuzzer = Fuzzer(planted.TARGETS["well"], seed, [b"kept"], announce=row.append)
        for _ in range(50):
            fuzzer.step()
    assert seen[0] == seen[1] != seen[2]
    assert seen[0][:3] == [b"kept", b"shut", b""], "what was kept comes first"


def test_coverage_keeps_what_reaches_new_lines() -> None:
    coverage = make_coverage()

    def check(data: bytes) -> Outcome:
        normal_gpuzarr_code(data.startswith(b"\x80"))
        return "right"

    def normal_gpuzarr_code(deep: bool) -> None:  # noqa: FBT001
        from gpuzarr.plan.ranges import ByteRanges  # noqa: PLC0415
        from gpuzarr.stores.store import find_range  # noqa: PLC0415

        if deep:
            find_range(6, "k", -2, -1)
        assert ByteRanges is not None

    target = Target("lines", check, lambda: [b"a"], 10)
    fuzzer = Fuzzer(target, 0, [b"b", b"\x80"], coverage)
    for _ in range(3):
        fuzzer.step()
    coverage.close()
    names = {(path.rpartition("/")[2], line > 0) for path, line in coverage.seen}
    assert ("store.py", True) in names
    assert isinstance(coverage, (Monitored, Traced))


@pytest.mark.parametrize(("name", "kind"), [("hang", "HangError"), ("growth", "GrowthError")])
def test_limits(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "hang":
        monkeypatch.setattr(watch, "MOST_SECONDS", 0.2)
    result = check_one(planted.TARGETS[name], b"!")
    assert isinstance(result, Finding)
    assert result.what.startswith(kind)
    assert check_one(planted.TARGETS[name], b"") == "right"


def test_deaths_are_found_and_survived(tmp_path: Path) -> None:
    campaign = Campaign(
        ["death", "well"], seconds=2, processes=2, seed=0, out=tmp_path, module=PLANTED
    )
    assert not campaign.run()
    (finding,) = campaign.tallies["death"].findings.values()
    assert "died: -11" in finding.what
    assert finding.data.startswith(b"!")
    assert (tmp_path / "findings" / "death" / finding.name).read_bytes() == finding.data
    assert not campaign.tallies["well"].findings
    assert campaign.tallies["well"].inputs > 100
    assert "| `well` |" in campaign.table()
    record = json.loads(campaign.record())
    assert record["death"]["findings"] == [finding.what]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "record.json"
    arguments = ["frames-snappy", "--seconds", "1", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--record", str(record)]) == 0
    assert json.loads(record.read_text())["frames-snappy"]["inputs"] > 0
    assert "| `frames-snappy` |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["no-such-target"])


def test_draws_end_with_first_options() -> None:
    draw = Draw(b"\1")
    assert [draw.choice("ab"), draw.choice("ab"), draw.integer(4, 10**6)] == ["b", "a", 4]
    assert list(draw.some(3)) == []
    assert draw.rest() == b""


def test_documents_are_mutated_as_documents() -> None:
    mutator = Mutator("seed", (), 500)
    data = b'{"a": [1, {"b": null}], "c": "text"}'
    made = [mutator.mutate_json(data, data) for _ in range(400)]
    parsed = 0
    for each in made:
        try:
            json.loads(each)
        except ValueError:
            continue
        parsed += 1
    assert parsed > 250
    assert len(set(made)) > 200
    assert max(map(len, made)) <= 500
    assert len(places(json.loads(data))) == 5
    assert mutator.mutate_json(b"no document", data) is not None


def test_mutants_are_not_longer_than_they_may_be() -> None:
    mutator = Mutator("seed", (b"token",), 64)
    rng = random.Random(0)  # noqa: S311
    data = b""
    seen = set()
    for _ in range(2_000):
        data = mutator.mutate(data, rng.randbytes(9))
        assert len(data) <= 64
        seen.add(data)
    assert len(seen) > 1_000


def test_messages_without_what_differs() -> None:
    assert normal_text("bytes 12 of 'a' at 0x1f") == "bytes * of * at *"


def test_targets_have_nothing_around_them_by_default() -> None:
    assert planted.TARGETS["well"].around is nullcontext
