"""The judgement of every mutant: which tests try it, in which order, and what is remembered of it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from mutants import baseline, trial
from mutants.baseline import CACHE, MODEL, Baseline
from mutants.operators import Mutant
from mutants.trial import ROOT


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    :ivar by: the test that noticed; empty if none did, or if the model could not even be imported
    :ivar key: the text on which this rests; as long as it is the same, so is the verdict
    """

    killed: bool
    by: str
    timeout: bool
    tests: int
    """How many tests were there to notice."""
    key: str


@dataclass(frozen=True, slots=True)
class Court:
    """What a judge must know."""

    baseline: Baseline
    everything: str
    """Digest of all that a survivor rests on: it survived every test, so any new text is a new chance.

    Empty if not every test was tried: then its survival is not worth remembering.
    """
    known: dict[str, Verdict]
    sources: dict[str, bytes]
    """The model's files as they were when the mutants were made of them; somebody may be editing them."""

    def stages(self, mutant: Mutant) -> list[list[str]]:
        """Tests to be tried one stage after the other: near and fast ones first, slow ones last."""
        base = self.baseline
        near = base.in_file(mutant.file)
        touching = base.touching(mutant.file, mutant.lines) if mutant.in_function else set(base.seconds)
        fast = {test for test in base.seconds if not base.slow(test)}
        # Collecting a test file costs more than most tests: the files that are about the mutant's come first.
        stem = Path(mutant.file).stem
        near_files = Counter(_file_of(test) for test in near & touching)
        groups = [
            {test for test in fast if _file_of(test).name.startswith(f"test_{stem}")},
            {test for test in touching if _file_of(test).name.startswith(f"test_{stem.partition('_')[0]}")},
            {test for test in touching if _file_of(test) in dict(near_files.most_common(3))},
            touching,
        ]

        def order(tests: Iterable[str]) -> list[str]:
            return sorted(tests, key=lambda t: (t not in touching, t not in near, base.seconds[t], t))

        stages: list[list[str]] = []
        left = set(base.seconds)
        for group in groups:
            stages.append(order(group & left & fast))
            left -= group
        stages.append(order(touching - fast))
        former = self.known.get(label(mutant))
        if former is not None and former.by in base.seconds:
            stages.insert(0, [former.by])
        return [stage for stage in stages if stage]

    def remembered(self, mutant: Mutant, source: Path) -> Verdict | None:
        """The verdict of an earlier day, if what it rests on is unchanged."""
        former = self.known.get(label(mutant))
        if former is None:
            return None
        return former if former.key and former.key == self.key(former.killed, former.by, source) else None

    def key(self, killed: bool, by: str, source: Path) -> str:
        if not killed:
            return self.everything
        witness = _file_of(by) if by else ROOT / "pyproject.toml"
        return baseline.digest([source, witness, *baseline.common_files()]) if witness.exists() else ""


def label(mutant: Mutant) -> str:
    return "\n".join(mutant.name)


def judge(court: Court, mutant: Mutant) -> Verdict:
    """Try the mutant with one stage of tests after another, until one notices."""
    path = MODEL / mutant.file
    replacement = trial.Replacement(_module_of(path), path, mutant.source(court.sources[mutant.file]))
    ran: set[str] = set()
    for stage in court.stages(mutant):
        outcome = trial.run(stage, court.baseline.limit, replacement)
        ran.update(stage)
        if not outcome.passed:
            key = court.key(True, outcome.test, path)
            return Verdict(True, outcome.test, outcome.timeout, len(ran), key)
    return Verdict(False, "", False, len(ran), court.key(False, "", path))


def judge_all(
    court: Court, mutants: Sequence[Mutant], jobs: int, progress: Callable[[int, int], None]
) -> dict[Mutant, Verdict]:
    """Every mutant's verdict; those that are remembered cost nothing."""
    verdicts: dict[Mutant, Verdict] = {}
    for mutant in mutants:
        former = court.remembered(mutant, MODEL / mutant.file)
        if former is not None:
            verdicts[mutant] = former
    fresh = [mutant for mutant in mutants if mutant not in verdicts]
    survived = 0
    with get_context("fork").Pool(jobs, _take_seat, (court,)) as judges:
        try:
            for count, (mutant, verdict) in enumerate(judges.imap_unordered(_judge, fresh), 1):
                verdicts[mutant] = verdict
                survived += not verdict.killed
                progress(len(fresh) - count, survived)
                if count % 100 == 0:
                    remember(verdicts)
        finally:
            remember(verdicts)
    return verdicts


_seat: list[Court] = []
"""The court in which this process judges."""


def _take_seat(court: Court) -> None:
    trial.die_with_parent()
    _seat[:] = [court]


def _judge(mutant: Mutant) -> tuple[Mutant, Verdict]:
    return mutant, judge(_seat[0], mutant)


def recall() -> dict[str, Verdict]:
    """What earlier runs found."""
    with contextlib.suppress(FileNotFoundError):
        return {name: Verdict(**found) for name, found in json.loads(_store().read_text()).items()}
    return {}


def remember(verdicts: dict[Mutant, Verdict]) -> None:
    """Add to what is known; others may have added to it meanwhile."""
    found = {label(mutant): verdict for mutant, verdict in verdicts.items()}
    whole = {name: asdict(verdict) for name, verdict in (recall() | found).items()}
    baseline.keep(_store(), json.dumps(whole))


def _store() -> Path:
    return CACHE / "verdicts.json"


def _file_of(test: str) -> Path:
    return ROOT / test.partition("::")[0]


def _module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
