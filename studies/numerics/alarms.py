"""Correct subjects under one numerics: what laws say of them is a false alarm.

``python -m studies.numerics.alarms SEED PROBLEMS`` asks in this process, and prints JSON.
"""

import json
import os
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, replace

import torch

from ekfac_ref import conformance as ct
from ekfac_ref.conformance.problems.digest import digest
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.problems.features import features
from ekfac_ref.conformance.run.profile import profile_named
from ekfac_ref.conformance.truth.tolerance import LawBroken
from ekfac_ref.question.problem import Problem
from studies.numerics.correct import correct_subjects
from studies.numerics.numerics import Numerics

QUICK = profile_named("quick")
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Asked:
    """What came out of a number of pairs of a correct subject and a problem.

    Attributes:
        digest: of the problems of the first subject.
        pairs: by subject and dtype, "subject, dtype".
        broken: a line for each law that is broken, or could not be asked: false alarms.
        doubted: a line for each law that is in doubt.
    """

    digest: str
    pairs: dict[str, int]
    broken: list[str]
    doubted: list[str]


def ask_here(seed: int, problems: int) -> Asked:
    """Ask every correct subject about so many problems, in each of DTYPES as drawn.

    Half of them are of what a quick run asks, one thing special about each, and half are mixtures.
    What a subject declines is no pair.
    """
    subjects = [
        replace(s, abilities=replace(s.abilities, dtypes=DTYPES)) for s in correct_subjects()
    ]
    abilities = {subject.abilities for subject in subjects}
    drawn = {able: _drawn(able, problems, seed) for able in abilities}
    pairs: Counter[str] = Counter()
    broken: list[str] = []
    doubted: list[str] = []
    # Problem by problem: what the kit knows of one is then known for all subjects.
    for number in range(problems):
        for subject in subjects:
            problem = drawn[subject.abilities][number]
            dtype = str(problem.dtype).removeprefix("torch.")
            where = f"{subject.name}, {dtype}, seed {seed}, problem {number + 1}"
            if set(subject.abilities.declines) & set(features(problem)):
                continue
            pairs[f"{subject.name}, {dtype}"] += 1
            try:
                found = ct.ask(subject, problem)
            except Exception as error:
                broken.append(f"{where}: {type(error).__name__}: {error}")
                continue
            for law, said in found.items():
                if said is not None:
                    lines = broken if isinstance(said, LawBroken) else doubted
                    lines.append(f"{where}: {law}: {said}")
    return Asked(digest(drawn[subjects[0].abilities]), dict(pairs), broken, doubted)


def _drawn(abilities: ct.Abilities, count: int, seed: int) -> list[Problem]:
    designed = ct.draw_problems(abilities, QUICK.problems, seed)
    each = count // 2
    some = [designed[number * len(designed) // each] for number in range(each)]
    return some + mixtures(abilities, count - each, seed)


def ask(numerics: Numerics, seed: int, problems: int) -> Asked:
    """Ask in a process of its own, which loads its libraries under this numerics."""
    ran = subprocess.run(
        [sys.executable, "-m", "studies.numerics.alarms", str(seed), str(problems)],
        # Threads that wait for one another by turning would take the cores of those that work.
        env=numerics.in_environment(os.environ) | {"OMP_WAIT_POLICY": "PASSIVE"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Asked(**json.loads(ran.stdout))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(asdict(ask_here(int(sys.argv[1]), int(sys.argv[2])))))
