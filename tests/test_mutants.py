"""Every mutant is noticed by the laws that it names, and an equivalent one by none."""

from collections.abc import Callable, Iterator
from functools import cache

import pytest

from ekfac_ref.conformance.draw import draw_problems
from ekfac_ref.conformance.law import Lane, Law
from ekfac_ref.conformance.lawbook import LAWS
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.subject import Abilities, Subject
from ekfac_ref.conformance.tolerance import LawBroken
from ekfac_ref.conformance.trial import Trial
from ekfac_ref.problem import Problem

from .snapshot import as_users_run_it
from .witnesses import witnesses

BY_NAME = {law.name: law for law in LAWS}
SOME = 6  # problems, for what must hold on all
WRONG = [mutant for mutant in CATALOGUE if not mutant.proof]
EQUIVALENT = [mutant for mutant in CATALOGUE if mutant.proof]


def only_solve(mutant: Mutant) -> bool:
    """Wrong in nothing but solves; a matvec cannot tell."""
    return all(BY_NAME[name].lane is Lane.SOLVE for name in mutant.laws)


def every(mutants: list[Mutant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("mutant", mutants, ids=lambda mutant: mutant.name)


@pytest.fixture(autouse=True)
def _without_type_checks() -> Iterator[None]:
    """They draw from the random state that "leaves alone" watches, and they take long."""
    with as_users_run_it():
        yield


@cache
def problems() -> list[Problem]:
    return [*witnesses().values(), *draw_problems(Abilities(), 60, seed_=0)]


def broken(law: Law, trial: Trial) -> bool:
    try:
        list(law.ask(trial))
    except LawBroken:
        return True
    return False


def unbroken(ask: Callable, laws: set[str]) -> set[str]:
    """Those of the laws that hold on every problem."""
    for problem in problems():
        trial = Trial(Subject("", ask), problem)
        laws = {name for name in laws if not broken(BY_NAME[name], trial)}
        if not laws:
            break
    return laws


def test_names_are_unique_and_laws_exist() -> None:
    names = [mutant.name for mutant in CATALOGUE]
    assert len(set(names)) == len(names) > 60
    for mutant in CATALOGUE:
        assert set(mutant.laws) <= set(BY_NAME), mutant.name
        assert bool(mutant.laws) != bool(mutant.proof), mutant.name


def test_the_recipe_without_a_mistake_breaks_nothing() -> None:
    for problem in problems()[::4]:
        trial = Trial(Subject("correct", CORRECT.ekfac), problem)
        assert not [law.name for law in LAWS if broken(law, trial)]


@every(WRONG)
def test_every_law_named_notices(mutant: Mutant) -> None:
    assert unbroken(mutant.ekfac, set(mutant.laws)) == set()


@every([mutant for mutant in WRONG if not only_solve(mutant)])
def test_a_matvec_is_enough_to_notice(mutant: Mutant) -> None:
    opaque = {law.name for law in LAWS if law.lane is Lane.OPAQUE}
    named = opaque & set(mutant.laws)
    assert named or len(unbroken(mutant.ekfac, {"self-projection", "comparison"})) < 2


@every(EQUIVALENT)
def test_nothing_notices_an_equivalent_mutant(mutant: Mutant) -> None:
    for problem in [*problems()[:SOME], *problems()[-SOME:]]:
        trial = Trial(mutant.subject, problem)
        assert not [law.name for law in LAWS if broken(law, trial)]
