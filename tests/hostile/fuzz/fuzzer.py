"""The loop: inputs that reach a new line, or a new error, are mutated further."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hostile.fuzz.mutation import Mutator
from tests.hostile.fuzz.target import raised
from tests.hostile.fuzz.watch import Finding, check_one

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.hostile.fuzz.coverage import Coverage
    from tests.hostile.fuzz.target import Outcome, Target

CORPUS = Path(__file__).with_name("corpus")
MOST_KEPT = 4_096
"""Inputs that are mutated further, of a target."""


class Fuzzer:
    """Checks a target with its seeds, with kept inputs, and with what it makes of them."""

    def __init__(
        self,
        target: Target,
        seed: int,
        kept: Iterable[bytes] = (),
        coverage: Coverage | None = None,
        announce: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """Check nothing yet.

        Args:
            target: what is fuzzed.
            seed: the same gives the same inputs, while coverage is the same.
            kept: inputs of earlier runs.
            coverage: what tells new lines; None: errors alone guide the search.
            announce: is told each input before it is checked.
        """
        self.outcomes: Counter[str] = Counter()
        """How many inputs had which outcome, "finding" among them."""
        self.findings: dict[str, Finding] = {}
        self.new: list[bytes] = []
        """Inputs that reached something new, in the order in which they were found."""
        self._target = target
        self._waiting = [*kept, *target.seeds()]
        self._mutator = Mutator(f"{target.name} {seed}", target.tokens, target.longest)
        self._coverage = coverage
        self._announce = announce
        self._given: list[bytes] = []
        self._inputs: list[bytes] = []
        raised.clear()

    @property
    def count(self) -> int:
        """Inputs that were checked."""
        return sum(self.outcomes.values())

    def step(self) -> Finding | None:
        """Check the next input; the finding, where it is one of a new kind."""
        given = bool(self._waiting)
        data = self._waiting.pop(0) if given else self._make()
        self._announce(data)
        before = self._reached()
        result = self._check(data)
        if given:
            self._given.append(data)
        elif self._reached() > before:
            self._keep(data)
        if not isinstance(result, Finding):
            self.outcomes[result] += 1
            return None
        self.outcomes["finding"] += 1
        if result.what in self.findings:
            return None
        self.findings[result.what] = result
        return result

    def _make(self) -> bytes:
        mutator = self._mutator
        mutate = mutator.mutate_json if self._target.is_json else mutator.mutate
        return mutate(*(mutator.pick(self._given, self._inputs) for _ in range(2)))

    def _check(self, data: bytes) -> Outcome | Finding:
        if self._coverage is None:
            return check_one(self._target, data)
        self._coverage.start()
        try:
            return check_one(self._target, data)
        finally:
            self._coverage.stop()

    def _reached(self) -> int:
        return len(raised) + (0 if self._coverage is None else len(self._coverage.seen))

    def _keep(self, data: bytes) -> None:
        self._inputs.append(data)
        self.new.append(data)
        if len(self._inputs) > MOST_KEPT:
            del self._inputs[len(self._inputs) // 2]


def corpus_of(name: str, folder: Path = CORPUS) -> Iterator[tuple[str, bytes]]:
    """The kept inputs of a target, findings first: their files' names, and what is in them."""
    paths = sorted(
        (folder / name).glob("*"), key=lambda path: (not path.name.startswith("finding"), path.name)
    )
    return ((path.name, path.read_bytes()) for path in paths if path.is_file())
