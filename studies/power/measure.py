"""How strong the laws are: every mutant against every law, and correct subjects against all.

A mutant that no law notices is a missing law, or is equivalent; a correct subject that some law
calls wrong is a false alarm; and a law that only sees large errors is worth little. All three are
measured on problems that are drawn like anybody's.
"""

import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import asked
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.run.load import load
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS
from ekfac_ref.conformance.run.resolution import once, resolution
from ekfac_ref.conformance.run.shrink import shrink
from ekfac_ref.conformance.run.tally import Tally
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.cache import observed
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem

DTYPES = {"float64": torch.float64, "float32": torch.float32}
ALL = tuple(LAWS)
PINNED = Path(__file__).parent / "power.json"


@dataclass(frozen=True)
class Alarms:
    """What correct subjects were said to break.

    Attributes:
        pairs: {subject, as ``load`` finds it: number of problems that all laws were asked on}.
        broken: "subject, law: what it said", for each.
    """

    pairs: dict[str, int]
    broken: list[str]


@dataclass(frozen=True, order=True)
class Size:
    """Of a problem: layers, samples, and the numbers in its largest layer's [W | b].

    Layers first: a problem with fewer of them is the one that is easier to read.
    """

    layers: int
    samples: int
    numbers: int


@dataclass(frozen=True)
class Power:
    """What a run found.

    Attributes:
        date: of the run, ISO.
        seeds: one set of problems for each.
        problems: in each set.
        killed: {mutant: {law: seeds of the sets on which it noticed}}, laws that notice it only;
            on the sets after the first, laws that noticed it there.
        needed: {mutant: the most problems, over the sets, until the first law noticed it}.
        smallest: {mutant: the smallest problem that shows it}, by the first law that noticed it.
        alarms: of correct subjects.
        resolution: {dtype: {law: the smallest error seen, median over problems}}; laws that see
            no error of size are left out.
        scale: {dtype: the smallest error of scale that laws of a mere matvec see, on the problem
            where that is largest}.
    """

    date: str
    seeds: list[int]
    problems: int
    killed: dict[str, dict[str, list[int]]]
    needed: dict[str, int]
    smallest: dict[str, Size]
    alarms: Alarms
    resolution: dict[str, dict[str, float]]
    scale: dict[str, float]


def pinned() -> Power:
    """The run whose result is committed."""
    found = json.loads(PINNED.read_text())
    smallest = {mutant: Size(**size) for mutant, size in found["smallest"].items()}
    return Power(**{**found, "alarms": Alarms(**found["alarms"]), "smallest": smallest})


def pin(power: Power) -> None:
    """Commit to this one."""
    text = json.dumps(asdict(power), indent=1, sort_keys=True)
    # The seeds of a law on one line, or ten thousand of them would be in the way of the rest.
    text = re.sub(r"\[[\d,\s]+\]", lambda numbers: " ".join(numbers[0].split()), text)
    PINNED.write_text(text + "\n")


@dataclass(frozen=True)
class Noticed:
    """One mutant on one set of problems.

    Attributes:
        mutant, seed: which, on which.
        first: {law: number of the first problem that broke it}.
        smallest: problem found that breaks the first of these laws; None if there are none.
    """

    mutant: str
    seed: int
    first: dict[str, int]
    smallest: Size | None


def noticed(
    name: str, seed: int, problems: int, shrink_seconds: float, laws: Collection[str] = ALL
) -> Noticed:
    """Which of these laws notice a mutant; a law that has noticed it is not asked again."""
    subject = MUTANTS[name].subject
    tallies = {law.name: Tally(law) for law in LAWS.values() if law.name in laws}
    first: dict[str, int] = {}
    for number, problem in enumerate(_drawn(subject.abilities, problems, seed), start=1):
        trial = Trial(subject, problem)
        for law in [law for law in tallies if law not in first]:
            tallies[law].ask(trial)
            if tallies[law].broken:
                first[law] = number
        if len(first) == len(tallies):
            break
    if not first:
        return Noticed(name, seed, first, None)
    tally = tallies[min(first, key=first.__getitem__)]
    assert tally.broken is not None
    for found in shrink(tally.law, subject, tally.broken, shrink_seconds, seed):
        tally.keep(found)
    return Noticed(name, seed, first, size(tally.broken.problem))


def size(problem: Problem) -> Size:
    """What there is to read."""
    seen = observed(problem)
    numbers = [len(groups) * groups[0].G[0][0].numel() for groups in seen.values()]
    return Size(len(numbers), sum(len(y) for _, y in problem.batches), max(numbers))


def false_alarms(path: str, seed: int, problems: int) -> list[str]:
    """What broke for a correct subject, found by ``load``; nothing should."""
    subject, alarms = load(path), []
    for problem in _drawn(subject.abilities, problems, seed):
        trial = Trial(subject, problem)
        for law in LAWS.values():
            try:
                list(law.ask(trial))
            except LawBroken as error:
                alarms.append(f"{path}, {law.name}: {error}")
    return alarms


@dataclass(frozen=True)
class Seen:
    """Resolutions on one problem: of every law to any error, and of a matvec's laws to a scale.

    Where E = 0 no scale is wrong, and the latter is 0.
    """

    laws: dict[str, float]
    scale: float


def resolutions(path: str, dtype: str, number: int, problems: int) -> Seen:
    """On one problem of so many, for a correct subject that is made wrong by less and less."""
    subject = once(load(path))
    problem = _drawn(Abilities(dtypes=(DTYPES[dtype],)), problems, 0)[number]
    trial = Trial(subject, problem)
    laws = [law for law in LAWS.values() if law.measures and asked(law, trial)]
    found = {law.name: resolution(law, subject, problem) for law in laws}
    of_scale = [
        resolution(law, subject, problem, PERTURBATIONS[:1])
        for law in laws
        if law.name in _SEE_SCALE
    ]
    silent = not any(case.E.matrix.any() for case in trial.cases)
    return Seen(found, 0.0 if silent else min(of_scale))


_SEE_SCALE = {"trace", "moments", "self-projection"}  # laws of a matvec, asked of every problem


@lru_cache(maxsize=2)  # a worker is asked about the same ones for every mutant
def _drawn(abilities: Abilities, count: int, seed: int) -> list[Problem]:
    return draw_problems(abilities, count, seed)
