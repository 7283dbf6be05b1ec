"""The short run: inputs that were kept, then some of every target that are the same every time."""

from __future__ import annotations

import pytest

from tests.effort import FULL
from tests.hostile.fuzz.fuzzer import CORPUS, Fuzzer, corpus_of
from tests.hostile.fuzz.targets import TARGETS
from tests.hostile.fuzz.watch import Finding, check_one


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    target = TARGETS[name]
    with target.around():
        for file, data in corpus_of(name):
            result = check_one(target, data)
            assert not isinstance(result, Finding), f"{file}: {result.text}"


def test_kept_inputs_belong_to_targets() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_sound(name: str) -> None:
    """What targets begin with comes far: else the fuzzing of it means little."""
    target = TARGETS[name]
    with target.around():
        outcomes = [check_one(target, seed) for seed in target.seeds()]
    for outcome in outcomes:
        assert not isinstance(outcome, Finding), outcome.text
    assert 4 * outcomes.count("right") >= len(outcomes), outcomes


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs(name: str) -> None:
    target = TARGETS[name]
    kept = [data for _, data in corpus_of(name)]
    fuzzer = Fuzzer(target, 0, kept)
    with target.around():
        for _ in range(len(kept) + len(target.seeds()) + target.inputs // (1 if FULL else 4)):
            finding = fuzzer.step()
            assert finding is None, f"{finding.data!r}\n{finding.text}"
    assert fuzzer.outcomes["right"], fuzzer.outcomes
