"""How strong the laws are: every mutant against every law, and correct subjects against all.

A mutant that no law notices is a missing law, or is equivalent; a correct subject that some law
calls wrong is a false alarm. Both are counted on problems that are drawn like anybody's.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ekfac_ref.conformance.draw import draw_problems
from ekfac_ref.conformance.lawbook import LAWS, Law
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.subject import Subject
from ekfac_ref.conformance.tolerance import LawBroken
from ekfac_ref.conformance.trial import Trial

PINNED = Path(__file__).parent / "power.json"


@dataclass(frozen=True)
class Power:
    """What a run of ``measure`` found.

    Attributes:
        date: of the run, ISO.
        seeds: one set of problems for each.
        problems: in each set.
        killed: {mutant: {law: in how many of the sets it was noticed}}, laws that notice it only.
        needed: {mutant: the most problems, over the sets, until the first law noticed it}.
    """

    date: str
    seeds: list[int]
    problems: int
    killed: dict[str, dict[str, int]]
    needed: dict[str, int]


def pinned() -> Power:
    """The run whose result is committed."""
    return Power(**json.loads(PINNED.read_text()))


def pin(power: Power) -> None:
    """Commit to this one."""
    PINNED.write_text(json.dumps(asdict(power), indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Noticed:
    """One mutant on one set of problems: {law: number of the first problem that broke it}."""

    mutant: str
    seed: int
    first: dict[str, int]


def noticed(name: str, seed: int, problems: int) -> Noticed:
    """Which laws notice a mutant; a law that has noticed it is not asked again."""
    torch.set_num_threads(1)
    subject = next(m for m in CATALOGUE if m.name == name).subject
    first: dict[str, int] = {}
    for number, problem in enumerate(draw_problems(subject.abilities, problems, seed)):
        trial = Trial(subject, problem)
        for law in LAWS:
            if law.name not in first and _breaks(law, trial):
                first[law.name] = number + 1
    return Noticed(name, seed, first)


def _breaks(law: Law, trial: Trial) -> bool:
    try:
        list(law.ask(trial))
    except LawBroken:
        return True
    return False


def measure(seeds: Sequence[int], problems: int, date: str, workers: int) -> Iterator[Power | str]:
    """Yields the name of every mutant as it is done with one set, and the result last."""
    names = [mutant.name for mutant in CATALOGUE]
    killed: dict[str, dict[str, int]] = {name: {} for name in names}
    needed: dict[str, int] = {}
    tasks = [(name, seed) for seed in seeds for name in names]
    with ProcessPoolExecutor(workers) as pool:
        for found in pool.map(noticed, *zip(*tasks, strict=True), [problems] * len(tasks)):
            laws = killed[found.mutant]
            for law in found.first:
                laws[law] = laws.get(law, 0) + 1
            if found.first:
                first = min(found.first.values())
                needed[found.mutant] = max(needed.get(found.mutant, 0), first)
            yield found.mutant
    yield Power(date, list(seeds), problems, killed, needed)


def false_alarms(subject: Subject, seed: int, problems: int) -> list[str]:
    """What broke for a correct subject; nothing should."""
    torch.set_num_threads(1)
    alarms = []
    for problem in draw_problems(subject.abilities, problems, seed):
        trial = Trial(subject, problem)
        for law in LAWS:
            try:
                list(law.ask(trial))
            except LawBroken as error:
                alarms.append(f"{law.name}: {error}")
    return alarms
