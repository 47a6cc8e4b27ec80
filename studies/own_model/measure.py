"""Mistakes of the catalogue on one problem: by how much is E off, and which laws notice?"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.own_model.laws.catalogue import OWN_LAWS
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.trial import OwnTrial
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.truth.tolerance import LawBroken


@dataclass(frozen=True)
class Noticed:
    """One mistake on one problem.

    Attributes:
        mutant: its name.
        change: |E' V - E V| / |E V| for random V, in the layer where that is largest.
        shown: laws that notice it on some layer, where eigenvectors and eigenvalues are shown.
        opaque: laws that notice it on some layer, where products and solutions are all there is.
        layers: on how many layers E is off by more than one percent, and on how many of these it
            is noticed by products alone.
        raised: what the mistake leads to instead of an answer, or "".
    """

    mutant: str
    change: float
    shown: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    layers: tuple[int, int] = (0, 0)
    raised: str = ""


def in_the_matrix() -> list[Mutant]:
    """Mistakes in an EKFAC by the default definition, without those that are proved to be none."""
    return [
        mutant
        for mutant in ct.MUTANTS.values()
        if not mutant.proof
        and mutant.optimizer is None
        and mutant.sampler is None
        and mutant.kfac is None
        and mutant.exact_fisher is None
        and mutant.definition == ct.Definition()
    ]


def all_noticed(problem: ek.Problem, mutants: Iterable[Mutant]) -> Iterator[Noticed]:
    """What becomes of every mistake."""
    right = OwnTrial(Subject("right", CORRECT.ekfac), problem)
    known = right.measured()
    correct = right.examined(known)
    for mutant in mutants:
        try:
            trial = OwnTrial(mutant.subject.offering(("ekfac",)), problem)
            examined = trial.examined(known)
            yield _noticed(mutant.name, examined, correct)
        except Exception as error:
            yield Noticed(mutant.name, 0.0, raised=type(error).__name__)


def _noticed(mutant: str, examined: list[Examined], correct: list[Examined]) -> Noticed:
    shown, opaque = dict[str, None](), dict[str, None]()
    changes, off, seen = [], 0, 0
    for one, other in zip(examined, correct, strict=True):
        changes.append(_change(one, other))
        shown |= dict.fromkeys(_broken(one))
        assert one.E is not None
        kept = [name for name in ("matvec", "solve") if hasattr(one.E.operator, name)]
        bare = SimpleNamespace(**{name: getattr(one.E.operator, name) for name in kept})
        one.E, one.in_own_basis = Own(bare, one.E.layer, one.E.shape), None
        noticed = _broken(one)
        opaque |= dict.fromkeys(noticed)
        off += changes[-1] > 0.01
        seen += changes[-1] > 0.01 and bool(noticed)
    return Noticed(mutant, max(changes), (*shown,), (*opaque,), (off, seen))


def _change(one: Examined, other: Examined) -> float:
    V = one.random(20)
    assert one.E is not None
    assert other.E is not None
    right = other.E.matvec(V.clone()).double()
    size = float(right.norm())
    return float((one.E.matvec(V.clone()).double() - right).norm()) / size if size else 0.0


def _broken(one: Examined) -> list[str]:
    found = []
    for name, law in OWN_LAWS.items():
        try:
            if law.offered(one):
                list(law.judge(one))
        except LawBroken:
            found.append(name)
    return found
