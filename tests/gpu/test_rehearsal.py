"""What only a GPU can answer is asked of the fake device here, so that the questions stay whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gpuzarr.errors import DeviceError
from tests.cuda_devices import fake
from tests.engines.cuda import fake_nvcomp
from tests.gpu import hostile, nvcomp_batch, observed, own_process, questions
from tests.gpu.test_hostile import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engines.cuda.fake_device import FakeDevice

__all__ = ["fake"]  # a fixture


@pytest.mark.parametrize("name", nvcomp_batch.ENCODERS)
@pytest.mark.usefixtures("fake")
def test_streams_come_back(name: str) -> None:
    data = [questions.DATA, bytes(70_000), b"x"]
    found = nvcomp_batch.decompress(
        name, [nvcomp_batch.ENCODERS[name](d) for d in data], [len(d) for d in data]
    )
    assert found == nvcomp_batch.Outcome(data, [0] * 3, [len(d) for d in data], guards=True)


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("question", questions.DAMAGED)
@pytest.mark.usefixtures("fake")
def test_damaged_streams_get_a_verdict(question: str) -> None:
    seen = questions.answer_to(question)
    assert seen["verdict"] in {
        *(questions.REFUSED, questions.OTHER_SIZE, questions.WRONG, questions.RIGHT)
    }
    assert seen["verdict"] != questions.RIGHT, "this damage does nothing"
    assert seen["neighbour right"]
    assert seen["guards"]
    assert seen[questions.SURVIVES]


@pytest.mark.parametrize("question", questions.TOO_SMALL | questions.OPEN)
@pytest.mark.usefixtures("fake")
def test_other_questions_have_an_answer(question: str) -> None:
    """Where the fake nvCOMP ends a call that breaks a rule, a GPU is what will tell."""
    seen = questions.answer_to(question)
    assert json.loads(json.dumps(seen)) == seen
    assert seen[questions.SURVIVES]
    if "error" in seen:
        broken = {"AssertionError: deflate input is not aligned", "this is not nvCOMP"}
        few = "AssertionError: there is too little temporary memory"
        assert seen["error"] in broken | {few}


def test_a_device_that_is_lost_is_told(fake: FakeDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: Any, **__: Any) -> None:
        fake.error = DeviceError("an illegal memory access")

    monkeypatch.setattr(fake_nvcomp.FakeNvcomp, "decompress", lose)
    seen = questions.answer_to("damaged zstd: zeros in the middle")
    assert seen["error"] == "DeviceError: an illegal memory access"
    assert not seen[questions.SURVIVES]


@pytest.mark.sampled(one_in=3)
@pytest.mark.parametrize("damage", hostile.DAMAGE)
@pytest.mark.parametrize("name", hostile.FORMATS)
@pytest.mark.usefixtures("fake")
def test_damaged_arrays(name: str, damage: str) -> None:
    seen = hostile.read_damaged(name, damage)
    assert seen["good after"] == seen["good at last"] == hostile.RIGHT
    assert hostile.RIGHT not in (seen["gpu"], seen["cpu"]), "this damage does nothing"
    require(name, seen)


@pytest.mark.parametrize(
    ("name", "seen", "bad"),
    [
        ("gzip", {}, False),
        ("gzip", {"gpu": hostile.WRONG}, True),
        ("gzip", {"gpu alone": hostile.WRONG}, True),
        ("lz4", {"gpu": hostile.WRONG}, False),
        ("lz4", {"good after": hostile.WRONG}, True),
        ("lz4", {"good after": "DecodeError"}, True),
        ("lz4", {"gpu": "DeviceError", "good after": "DeviceError"}, False),
        ("lz4", {"gpu": f"{hostile.FOREIGN}: KeyError"}, True),
        ("lz4", {own_process.DIED: "exit status -6"}, True),
    ],
)
def test_what_is_required_of_reads(name: str, seen: dict[str, str], bad: bool) -> None:  # noqa: FBT001
    usual = dict.fromkeys(["cpu", "gpu", "gpu alone"], "DecodeError")
    usual |= dict.fromkeys(["good after", "good at last"], hostile.RIGHT)
    if bad:
        with pytest.raises(AssertionError):
            require(name, usual | seen)
    else:
        require(name, usual | seen)


ANSWER = "print('{\"a\": 1}', flush=True)"
PROGRAMS = {
    f"{ANSWER}; print('a line')": {"a": 1},
    f"{ANSWER}; import os; os._exit(3)": {"a": 1, "process": "exit status 3"},
    "import sys; sys.exit('no GPU')": {"process": "exit status 1: no GPU"},
    "import os; os.abort()": {"process": "exit status -6"},
    f"{ANSWER}; import time; time.sleep(60)": {"a": 1, "process": "had not ended after 3 s"},
    "import time; time.sleep(60)": {"process": "had not ended after 3 s"},
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_processes_that_end_in_every_way(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asked.py").write_text(program)
    monkeypatch.setattr(own_process, "ROOT", tmp_path)
    assert own_process.ask("asked", seconds=3) == PROGRAMS[program]


def test_observations_are_kept_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "observations.json"
    monkeypatch.setenv("GPUZARR_OBSERVATIONS", str(place))
    observed.observe("b", {"status": 12})
    observed.observe("a", 1)
    observed.observe("a", 2)
    assert json.loads(place.read_text()) == {"a": 2, "b": {"status": 12}}
    assert [path.name for path in tmp_path.iterdir()] == ["observations.json"]
