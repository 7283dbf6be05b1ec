"""Ten thousand damaged and hostile inputs, what was a finding once, and what all of it rests on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import gpuzarr
from gpuzarr.codecs import lower, sharding
from gpuzarr.stores.references.store import ReferenceStore
from tests.arrays import plain_store
from tests.conformance.case import assert_equal
from tests.engines.cuda.fake_device import FakeDevice
from tests.hostile import record, watch
from tests.hostile.__main__ import main
from tests.hostile.bases import load_bases, load_cases
from tests.hostile.inputs import (
    Hostile,
    Tools,
    digest,
    empty,
    first_digests,
    make,
    make_tools,
    numbered,
    rounds,
)
from tests.hostile.judge import Verdict, judge
from tests.hostile.kinds import KINDS
from tests.hostile.places import secret_store, write

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = 10_400
SHARES = 2
NOT_IN_BASES = {"endian"}
"""A name of `bytes` in files of long ago."""


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    return make_tools(tmp_path_factory.mktemp("hostile"))


@pytest.mark.long
@pytest.mark.parametrize("share", range(SHARES))
def test_inputs(share: int, tmp_path: Path) -> None:
    part = INPUTS // SHARES
    job = {"start": share * part, "stop": (share + 1) * part, "step": 1}
    shares = [watch.Share(share, job, tmp_path)]
    for _ in watch.watch(shares):
        pass
    findings = shares[0].all_findings()
    assert not findings, "\n".join(map(watch.describe, findings))
    counts = watch.counts(shares)
    assert counts[:, 0].sum() == part
    assert (counts[:, 0] == counts[:, 1:].sum(axis=1)).all()
    assert counts[:, 0].all(), "each kind takes part"
    assert watch.on_cuda(shares) > part // 16


def test_what_was_a_finding_once(tmp_path: Path) -> None:
    kept = record.kept()
    these = [[each["kind"], each["number"]] for each in kept]
    share = watch.Share(0, {"these": these}, tmp_path)
    if these:
        for _ in watch.watch([share]):
            pass
        assert not share.all_findings(), "\n".join(map(watch.describe, share.all_findings()))


def test_findings_are_still_what_they_were(tools: Tools) -> None:
    for each in record.kept():
        hostile = make(each["kind"], each["number"], tools)
        assert digest(hostile) == each["digest"], (
            f"{each['kind']} {each['number']} is another input"
        )
        empty(tools.folder)


def test_every_codec_is_damaged() -> None:
    bases = load_bases()
    found = set().union(*(base.names for base in bases))
    known = {*lower.CODECS, sharding.NAME} - NOT_IN_BASES
    assert known <= found, f"run python -m tests.hostile.bases for {sorted(known - found)}"


def test_bases_are_read_right(tmp_path: Path) -> None:
    """What is called right afterwards is what the writers of the arrays say."""
    for base, case in zip(load_bases(), load_cases(tmp_path), strict=True):
        assert base.name == case.id
        assert_equal(case.expected(), base.plain)


def test_kinds_and_rounds() -> None:
    assert len(KINDS) >= 12
    order = rounds()
    assert len(order) == sum(each.weight for each in KINDS.values())
    seen = [numbered(index, order) for index in range(3 * len(order))]
    assert len(set(seen)) == len(seen)
    for name, each in KINDS.items():
        mine = sorted(number for kind, number in seen if kind == name)
        assert mine == list(range(3 * each.weight))


def test_inputs_are_the_same_everywhere(tools: Tools) -> None:
    known = record.frozen()
    assert known.keys() | record.COMPRESSED == KINDS.keys(), "run python -m tests.hostile --freeze"
    found = first_digests(tools, known)
    changed = [name for name in known if found[name] != known[name]]
    assert not changed, f"kinds of other inputs: python -m tests.hostile --freeze for {changed}"


def test_inputs_differ(tools: Tools, tmp_path: Path) -> None:
    """And whoever makes one makes the same."""
    for name in KINDS:
        digests = []
        for each in (tools, Tools(tools.bases, tmp_path)):
            for number in range(2):
                digests.append(digest(make(name, number, each)))
                empty(each.folder)
        assert digests[:2] == digests[2:], name
        assert digests[0] != digests[1], name


# ------------------------------------------------- the judge and the watch see what they look for


def hostile_of(tools: Tools, test: Any) -> Hostile:
    return next(
        hostile
        for number in range(3000)
        if test(hostile := make("flipped bits, with a checksum", number, tools))
    )


def test_the_judge_sees_other_values(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    base = next(base for base in tools.bases if base.names == {"bytes"} and len(base.objects) > 2)
    key = next(iter(base.objects))
    data = bytes(base.values[key][:-1]) + b"\x55"
    damaged = frozenset([key])
    told = Hostile("", {**base.values, key: data}, base, damaged, promise="told")
    assert any("format tells" in each for each in judge(told, 1).findings)
    due = Hostile("", {**base.values, key: data}, base, damaged, promise="refuse")
    assert any("error is due" in each for each in judge(due, 1).findings)
    free = Hostile("", {**base.values, key: data}, base, damaged)
    assert judge(free, 1).outcome == "untold"
    assert judge(free, 1).findings == []
    other = Hostile("", {**base.values, key: data}, base, frozenset(base.objects) - damaged)
    assert any("not damaged" in each for each in judge(other, 1).findings)
    short = Hostile("", {**base.values, key: b""}, base, frozenset(base.objects) - damaged)
    assert any("not damaged" in each for each in judge(short, 1).findings)
    right = Hostile("", dict(base.values), base, damaged, promise="told")
    assert judge(right, 1).outcome == "right"
    assert judge(right, 1, device="cpu").findings == []

    def fails(*_: Any, **__: Any) -> None:
        raise KeyError("what")

    monkeypatch.setattr(gpuzarr.Array, "__getitem__", fails)
    assert any("KeyError" in each for each in judge(right, 1).findings)


def test_the_judge_reads_messages() -> None:
    from tests.hostile.judge import _check_message  # noqa: PLC0415  the thing itself

    hostile = Hostile("", {}, damaged=frozenset(["c/0/1"]))
    for error, said in [
        (gpuzarr.DecodeError("damaged", store="s", path="", key="c/0/1"), 0),
        (gpuzarr.DecodeError("damaged", store="s", path=""), 1),
        (gpuzarr.DecodeError("damaged", key="c/0/1"), 1),
        (gpuzarr.DecodeError("long " * 9999, store="s", key="c/0/1"), 1),
    ]:
        verdict = Verdict(error=error)
        _check_message(hostile, verdict)
        assert len(verdict.findings) == said, error.args


WATCHED = """
import os, signal, sys, time
import numpy as np
from pathlib import Path
from tests.hostile import worker

def read(self, index, name, number):
    self.state.numbers[1] = time.monotonic_ns()
    self.state.numbers[0] = index
    if index == 2:
        {does}
    self.state.counts[0][0] += 1

worker.Worker.read = read
worker.make_tools = lambda folder: worker.Tools((), folder)
worker.run(Path(sys.argv[1]), Path(sys.argv[2]), worker.json.loads(Path(sys.argv[3]).read_text()))
"""


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("time.sleep(1000)", "hang"),
        ("sys.exit(7)", "status 7"),
    ],
)
def test_the_watch_sees_what_ends_a_process(
    does: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program.py"
    program.write_text(WATCHED.format(does=does))
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        environment = {"PYTHONPATH": str(watch.ROOT), "PATH": ""}
        return popen([sys.executable, str(program), *command[3:]], env=environment, **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(watch, "MOST_SECONDS", 3.0 if said == "hang" else 60.0)
    job = {"start": 0, "stop": 5, "step": 1}
    share = watch.Share(0, job, tmp_path, confirms=False)
    for _ in watch.watch([share]):
        pass
    (finding,) = share.all_findings()
    assert said in finding["found"][0]
    assert (finding["index"], finding["kind"]) == (2, numbered(2, rounds())[0])
    assert watch.counts([share])[:, 0].sum() == 5


def test_memory_that_grows_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.hostile import worker  # noqa: PLC0415  changed here

    monkeypatch.setattr(worker, "MOST_GROWTH", -1)
    state, findings = tmp_path / "state", tmp_path / "findings"
    numbers = worker.State.at(state, new=True)
    device = FakeDevice()
    tools = make_tools(tmp_path)
    hook = sys.unraisablehook
    try:
        reader = worker.Worker(numbers, findings, tools, device)
        with pytest.raises(SystemExit):
            reader.read(0, "truncated", 0)
    finally:
        sys.unraisablehook = hook
    assert "memory grew" in json.loads(findings.read_text())["found"][-1]


def test_the_readme_is_that_of_the_results() -> None:
    text = record.README.read_text(encoding="utf-8")
    results = record.saved()
    assert record.with_table(text, results) == text
    assert set(results["kinds"]) == set(KINDS)
    assert results["inputs"] >= 1_000_000
    assert results["findings"] == 0


def test_a_kind_once_more_takes_the_place_of_its_row() -> None:
    def run(inputs: int, findings: int, commit: str) -> record.Results:
        rows = {name: dict.fromkeys(("inputs", "refused", "right", "untold"), 0) for name in KINDS}
        rows = {name: {**row, "findings": 0} for name, row in rows.items()}
        rows["truncated"] |= {"inputs": inputs, "refused": inputs, "findings": findings}
        rows["pickles"] |= {"inputs": 7, "refused": 7}
        total = inputs + 7
        head = {"commit": commit, "inputs": total, "on_cuda": 3, "findings": findings}
        return {**head, "kinds": rows}

    found = record.again(run(20, 4, "one"), run(30, 0, "two"), "truncated")
    assert (found["inputs"], found["findings"]) == (37, 0)
    assert found["kinds"]["pickles"]["inputs"] == 7
    said = record.table(found)
    assert (
        "37 inputs, 3 of them by the CUDA engine too, at commit one, *truncated* once more" in said
    )
    assert "at two: 0 findings" in said


def test_the_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main(["--only", "pickles", "--inputs", "20"]) == 0
    assert "20 inputs, " in capsys.readouterr().out
    assert main(["--this", "a shard index against its checksum", "0"]) == 0
    said = capsys.readouterr().out
    assert said.count("refused, ChecksumError: ") == 2, said


def test_the_judge_sees_what_lies_outside(tools: Tools) -> None:
    """Of references that are not limited."""
    write(tools.folder, secret_store())
    place = [str(tools.folder / "0")]
    document = plain_store(np.zeros(8, np.int32), (4,))["zarr.json"].decode()
    store = ReferenceStore.from_document({"zarr.json": document, "c/0": place, "c/1": place})
    findings = judge(Hostile("", store, look="node", path=""), 1).findings
    empty(tools.folder)
    assert findings == ["/ shows what lies outside the root"]


def test_values_are_compared_bit_for_bit() -> None:
    from tests.hostile.judge import same  # noqa: PLC0415

    zeros = np.zeros(2)
    assert same(zeros, zeros.copy())
    assert not same(zeros, -zeros)
    assert not same(zeros, zeros.astype("f4"))
    assert not same(zeros, np.zeros(3))
    nan = np.full(2, np.nan)
    assert same(nan, np.array([np.nan, np.float64(np.nan)]))
    words = np.array(["a", None], object)
    assert same(words, words.copy())
    assert not same(words, np.array(["a", "b"], object))
