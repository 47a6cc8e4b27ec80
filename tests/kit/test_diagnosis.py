"""Mistakes made by hand, on top of plain code, and the names that the diagnosis gives them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.diagnosis import search, selection
from ekfac_ref.conformance.diagnosis.comparable import DOUBLE as PRECISION
from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.diagnosis.factor import NO_MISTAKE, Candidate
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.eigenpairs import turned
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.model.forward import call
from tests.kit import remade
from tests.kit.remade import REMADE
from tests.kit.remade.hooked import Recipe, assembled
from tests.support.partial_subjects import ekfac, kfac

DOUBLE = Abilities(dtypes=(torch.float64,))
Ask = Callable[[ek.Problem], dict[str, ek.Operator]]


@pytest.fixture(autouse=True)
def _fewer_problems(monkeypatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (9,))  # they are enough to tell these mistakes apart


def scaled(ask: Ask, factor: Callable[[int, int], float]) -> Ask:
    """Every block times f(N, K), of the numbers of samples and of outputs."""

    def answer(problem: ek.Problem) -> dict[str, ek.Operator]:
        N = sum(len(y) for _, y in problem.batches)
        times = factor(N, call(problem.model, next(iter(problem.batches))[0])[0].numel())
        return {name: block.scaled(times) for name, block in ask(problem).items()}

    return answer


def double(ask: Ask) -> Subject:
    """Asked about every kind of layer, in float64."""
    return Subject("of the reference", ask, abilities=DOUBLE)


# Mistakes that the reference makes if it is taken for something else, and those made by hand.
MISTAKES = {
    "never-corrected": double(kfac),
    "sum-over-samples": double(scaled(ekfac, lambda N, K: N)),
    **{name: remade.subject(recipe) for name, recipe in REMADE.items()},
}
FEW = [MUTANTS[name] for name in ("sum-over-samples", "square-each-position", "column-order")]


@pytest.mark.parametrize("ask", [CORRECT.ekfac, ek.ekfac])
def test_a_correct_subject_gets_no_name(ask) -> None:
    found = diagnose(Subject("correct", ask))
    assert found.sentence.startswith("Its EKFAC agrees with the definition. ")
    assert [c.name for c in found.candidates] == [NO_MISTAKE]


@pytest.mark.parametrize(
    ("factor", "exponents", "words"),
    [
        (lambda N, K: N, (1, 0, 0), "times N."),
        (lambda N, K: 2 / K, (0, 0, -1), "times 2 / K."),
        (lambda N, K: -N / (3 * K**2), (1, 0, -2), "times -N / (3 K^2)."),
    ],
)
def test_right_up_to_a_factor(factor, exponents, words) -> None:
    found = diagnose(double(scaled(ekfac, factor)), FEW)
    (correct,) = (c for c in found.candidates if c.name == NO_MISTAKE)
    assert correct.exponents == exponents
    assert correct.error < 1e-12
    assert found.sentence.startswith(f"It is right up to a factor: {words}")


@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_ranked_first(name: str) -> None:
    """Among every fourth mutant of the catalogue and all of these."""
    part = [m for i, m in enumerate(MUTANTS.values()) if m.name in MISTAKES or i % 4 == 0]
    found = diagnose(MISTAKES[name], part)
    first = found.candidates[0]
    assert (first.name, first.complexity) == (name, (0, 0))
    assert first.error <= PRECISION.fits
    assert "It looks as if the implementation " in found.sentence
    assert MUTANTS[name].mistake in found.sentence


def test_the_example_of_hooks_made_again_is_right() -> None:
    assert diagnose(remade.subject(Recipe())).sentence.startswith(
        "Its EKFAC agrees with the definition. "
    )


def test_twelve_problems_at_least_are_informative(monkeypatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (9,) * 3)
    found = selection.enough(selection.draws(MISTAKES["square-each-position"], PRECISION, 0))
    used = [c.question for c in selection.chosen(found)]
    informative = [
        all(N >= 3 and K >= 2 for N, _, K in q.sizes)
        and any(T >= 2 and d != e for (_, T, _), (d, e) in zip(q.sizes, q.shapes, strict=True))
        for q in used
    ]
    assert sum(informative) >= 12


@pytest.mark.parametrize(("ask", "times"), [(ekfac, 2), (kfac, 1)])
def test_more_is_drawn_while_the_subject_looks_right(ask: Ask, times: int) -> None:
    first = next(selection.draws(double(ask), PRECISION, 0))
    draw = [c for c in first if not c.question.has_positions]
    assert len(selection.enough(iter([draw, draw]))) == times * len(draw)


def test_a_subject_that_answers_nothing_with_positions_is_not_drawn_for_until_it_does() -> None:
    """One with positions among others is: it may answer eleven more."""
    first = next(selection.draws(double(kfac), PRECISION, 0))
    without = [c for c in first if not c.question.has_positions]
    one = next(c for c in first if c.question.has_positions)
    assert len(without) >= selection.INFORMATIVE
    assert len(selection.enough(iter([without, without]))) == len(without)
    assert len(selection.enough(iter([[*without, one], without]))) == 2 * len(without) + 1


def test_families_that_it_refuses_are_drawn_once(monkeypatch) -> None:
    """It takes no convolution: twelve networks of them are drawn, and no seventy more."""
    monkeypatch.setattr(selection, "DRAWS", (2, 2, 2))
    asked = Counter[bool]()

    def ask(problem: ek.Problem) -> dict[str, ek.Operator]:
        convolves = any("Conv" in type(m).__name__ for m in problem.model.modules())
        asked[convolves] += 1
        if convolves:
            raise NotImplementedError("no convolutions")
        return ekfac(problem)

    drawn = selection.draws(double(ask), PRECISION, 0)
    found, first = next(drawn), asked.copy()
    for more in drawn:
        found += more
    assert asked[True] == first[True] > 0
    assert asked[False] > first[False] > 0
    assert len(found) > 0


def test_what_cancels_to_rounding_is_nothing() -> None:
    """The variance of samples that are all the same."""

    def variance(R: Tensor) -> Tensor:
        return R.square().sum(1).mean(0) - R.mean(0).square().sum(0)

    same = Recipe(look=lambda s: s.of([0, 0, 0]), square=variance)
    draw = next(selection.draws(remade.subject(same), PRECISION, 0))
    one_column = [c for c in draw if len(next(iter(c.question.seen.values()))[0].G[0]) == 1]
    assert len(one_column) > 3
    assert not any(E.any() for c in one_column for E in c.given)


def test_what_agrees_on_few_problems_is_asked_about_more() -> None:
    tied = [Candidate(name, 1.0, (0.0, 0.0, 0.0), 0.0) for name in ("sum-over-samples", "other")]
    both = (*FEW, Mutant("other", "does another", "", ek.ekfac, ()))
    others = next(selection.draws(MISTAKES["sum-over-samples"], PRECISION, 0))
    one, other = search.told_apart(tied, both, others)
    assert one.error < 1e-12
    assert other.error > 0.1
    assert search.told_apart(tied[1:], both, others) == tied[1:]


def test_a_mistake_with_a_factor() -> None:
    subject = MISTAKES["square-each-position"]
    found = diagnose(replace(subject, ekfac=scaled(subject.ekfac, lambda N, K: N / 2)), FEW)
    first = found.candidates[0]
    assert (first.name, first.factor) == ("square-each-position", "N / 2")
    assert ", times N / 2: agreement " in found.sentence


def test_mutants_with_equal_matrices_are_named_together() -> None:
    subject = MISTAKES["square-each-position"]
    one = Mutant("one", "does one thing", "", subject.ekfac, ())
    other = replace(one, name="other", mistake="does another")
    sentence = diagnose(subject, [one, other]).sentence
    assert "does one thing, or, which is the same here, does another: agreement" in sentence


def test_random_matrices_fit_nothing() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
        M = torch.randn(Lambda.numel(), Lambda.numel(), generator=generator, dtype=torch.float64)
        return M + M.T

    assert diagnose(remade.subject(Recipe(matrix=random)), FEW).sentence.startswith(
        "Nothing in the catalogue fits"
    )


def test_the_nearest_is_told_where_nothing_fits() -> None:
    def nearly(Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
        E = assembled(Q_B, Q_A, Lambda)
        return E + 0.1 * torch.diag(E.diagonal())

    found = diagnose(remade.subject(Recipe(matrix=nearly)), list(MUTANTS.values())[:1])
    assert "Nothing in the catalogue fits: the nearest is the definition itself" in found.sentence


def test_an_exception_of_a_mutant_fits_nothing() -> None:
    def fails(problem: ek.Problem) -> dict:
        raise ArithmeticError

    broken = Mutant("broken", "is broken", "", fails, ())
    found = diagnose(MISTAKES["square-each-position"], [broken])
    assert [c.name for c in found.candidates] == [NO_MISTAKE]


def test_an_exception_of_the_subject_is_skipped() -> None:
    def reduces_only(problem: ek.Problem) -> dict:
        if isinstance(problem.sharing, ek.Expand):
            raise ValueError("sharing: only Reduce() is implemented; use that.")
        return scaled(ekfac, lambda N, K: N)(problem)

    found = diagnose(Subject("refuses", reduces_only, abilities=DOUBLE), [])
    assert found.sentence.startswith("It is right up to a factor: times N.")


def test_single_precision_has_its_own_thresholds() -> None:
    found = diagnose(
        Subject(
            "single", ek.ekfac, abilities=Abilities((torch.nn.Linear,), dtypes=(torch.float32,))
        )
    )
    assert found.sentence.startswith("Its EKFAC agrees with the definition. ")


@pytest.mark.parametrize(
    ("candidate", "written"),
    [
        (Candidate("", 1.0, (0.0, 0.0, 0.0), 0.0), "1"),
        (Candidate("", 0.5, (1.0, 0.0, 0.0), 0.0), "N / 2"),
        (Candidate("", 1.5, (0.0, 2.0, -0.5), 0.0), "3 T^2 / (2 sqrt(K))"),
        (Candidate("", 2**0.5, (0.0, 0.0, 0.0), 0.0), "sqrt(2)"),
        (Candidate("", 0.3712, (-1.5, 0.0, 0.0), 0.0), "0.371 / N^1.5"),
    ],
)
def test_factors_are_written_as_one_would(candidate: Candidate, written: str) -> None:
    assert candidate.factor == written


def test_two_mistakes_at_once_on_the_problems_of_either() -> None:
    """Of both together, nothing in the catalogue would be the name."""
    halves, summed = MUTANTS["half-lambda"], MUTANTS["sum-over-samples"]

    def both(problem: ek.Problem) -> dict[str, ek.Operator]:
        return (halves if problem.mask is None else summed).subject.ekfac(problem)  # type: ignore[misc]

    problems = mixtures(DOUBLE, 60, 0)
    masked = [problem for problem in problems if problem.mask is not None]
    others = [problem for problem in problems if problem.mask is None]
    subject = Subject("both", both, abilities=DOUBLE)
    for one, mutant in ((masked, summed), (others, halves)):
        assert mutant.mistake in diagnose(subject, problems=one).sentence


@pytest.mark.parametrize("name", ["not-transposed", "column-order"])
def test_order_and_signs_of_eigenvectors_do_not_hide_a_mistake(name: str) -> None:
    """As another LAPACK might hand them out."""
    turns = {2: ([1, 0], [1.0, -1.0]), 3: ([2, 0, 1], [1.0, -1.0, 1.0])}

    def ask(problem: ek.Problem) -> Mapping[str, Any]:
        with turned(turns):
            return MUTANTS[name].ekfac(problem)

    few = [MUTANTS["not-transposed"], MUTANTS["column-order"], *FEW[:2]]
    subject = Subject("turned", ask, abilities=DOUBLE)
    found = diagnose(subject, few)
    assert [c.name for c in found.candidates] == [name]
    assert found.sentence.endswith("with eigenvectors in an order and with signs of its own.")
    without = [mutant for mutant in few if mutant.name != name]
    assert "Nothing in the catalogue fits" in diagnose(subject, without).sentence


@pytest.mark.parametrize(("odd", "named"), [(1, True), (6, False)])
def test_one_odd_block_does_not_hide_the_name(odd: int, named: bool) -> None:
    """The mistake on twelve problems, and on some of them something else beside it."""
    mistaken = MUTANTS["column-order"].in_every_way.offering(["ekfac"])
    first_draw = next(selection.draws(replace(mistaken, abilities=DOUBLE), PRECISION, 0))
    problems = [c.question.problem for c in first_draw if c.is_odd][:12]

    def first_weight(problem: ek.Problem) -> float:
        return next(iter(problem.model.parameters())).sum().item()

    odd_ones = {first_weight(problem) for problem in problems[:odd]}

    def ask(problem: ek.Problem) -> Mapping[str, Any]:
        found = MUTANTS["column-order"].ekfac(problem)
        if first_weight(problem) not in odd_ones:
            return found
        return {
            name: SimpleNamespace(matvec=lambda V, one=one: one.matvec(V) + 3 * V.sum())
            for name, one in found.items()
        }

    found = diagnose(Subject("odd", ask, abilities=DOUBLE), FEW, problems=problems)
    assert (found.candidates[0].name == "column-order" and found.candidates[0].agrees) is named
    assert ("agreement 0 on 11 of 12 problems" in found.sentence) is named
