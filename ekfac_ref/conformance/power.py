"""How strong the laws are: every mutant against every law, and correct subjects against all.

A mutant that no law notices is a missing law, or is equivalent; a correct subject that some law
calls wrong is a false alarm; and a law that only sees large errors is worth little. All three are
measured on problems that are drawn like anybody's.
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import torch

from ekfac_ref.conformance.blur import BLURS
from ekfac_ref.conformance.draw import draw_problems
from ekfac_ref.conformance.lawbook import LAWS
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.resolution import asked, once, resolution, sees
from ekfac_ref.conformance.subject import Abilities, load
from ekfac_ref.conformance.tolerance import LawBroken
from ekfac_ref.conformance.trial import Trial
from ekfac_ref.problem import Problem

DTYPES = {"float64": torch.float64, "float32": torch.float32}
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


@dataclass(frozen=True)
class Power:
    """What a run found.

    Attributes:
        date: of the run, ISO.
        seeds: one set of problems for each.
        problems: in each set.
        killed: {mutant: {law: in how many of the sets it was noticed}}, laws that notice it only.
        needed: {mutant: the most problems, over the sets, until the first law noticed it}.
        alarms: of correct subjects.
        resolution: {dtype: {law: the smallest error seen, median over problems}}; laws that see
            no error of size are left out.
        scale: {dtype: the smallest error of scale that laws of a mere matvec see, on the problem
            where that is largest}.
    """

    date: str
    seeds: list[int]
    problems: int
    killed: dict[str, dict[str, int]]
    needed: dict[str, int]
    alarms: Alarms
    resolution: dict[str, dict[str, float]]
    scale: dict[str, float]


def pinned() -> Power:
    """The run whose result is committed."""
    found = json.loads(PINNED.read_text())
    return Power(**{**found, "alarms": Alarms(**found["alarms"])})


def pin(power: Power) -> None:
    """Commit to this one."""
    PINNED.write_text(json.dumps(asdict(power), indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Noticed:
    """One mutant on one set of problems: {law: number of the first problem that broke it}."""

    mutant: str
    first: dict[str, int]


def noticed(name: str, seed: int, problems: int) -> Noticed:
    """Which laws notice a mutant; a law that has noticed it is not asked again."""
    subject = next(m for m in CATALOGUE if m.name == name).subject
    first: dict[str, int] = {}
    for number, problem in enumerate(_drawn(subject.abilities, problems, seed)):
        trial = Trial(subject, problem)
        for law in LAWS:
            if law.name not in first and sees(law, trial):
                first[law.name] = number + 1
    return Noticed(name, first)


def false_alarms(path: str, seed: int, problems: int) -> list[str]:
    """What broke for a correct subject, found by ``load``; nothing should."""
    subject, alarms = load(path), []
    for problem in _drawn(subject.abilities, problems, seed):
        trial = Trial(subject, problem)
        for law in LAWS:
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
    laws = [law for law in LAWS if law.measures and asked(law, trial)]
    found = {law.name: resolution(law, subject, problem) for law in laws}
    of_scale = [
        resolution(law, subject, problem, BLURS[:1]) for law in laws if law.name in _SEE_SCALE
    ]
    silent = not any(case.E.matrix.any() for case in trial.cases)
    return Seen(found, 0.0 if silent else min(of_scale))


_SEE_SCALE = {"trace", "moments", "self-projection"}  # laws of a matvec, asked of every problem


@lru_cache(maxsize=2)  # a worker is asked about the same ones for every mutant
def _drawn(abilities: Abilities, count: int, seed: int) -> list[Problem]:
    return draw_problems(abilities, count, seed)
