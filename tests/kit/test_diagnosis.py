"""Mistakes made by hand, on top of plain code, and the names that the diagnosis gives them."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.diagnosis import search, selection
from ekfac_ref.conformance.diagnosis.comparable import DOUBLE as PRECISION
from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.diagnosis.factor import NO_MISTAKE, Candidate
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.truth.cache import remembered
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.matrix.operators import BlockDiagonal, Dense
from ekfac_ref.model.forward import call
from tests.kit import remade

DOUBLE = Abilities(dtypes=(torch.float64,))
Matrix = Callable[[Observation, Tensor, Tensor], Tensor]


@pytest.fixture(autouse=True)
def _fewer_problems(monkeypatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (9,))  # checking shapes makes drawing slow


def subject(matrix: Matrix, factor: Callable[[int, int], float] = lambda N, K: 1.0) -> Subject:
    """E of every layer by a function of what it saw and the two bases, times f(N, K)."""

    def block(seen: Observation, scale: float) -> Dense:
        E = matrix(seen, *bases(seen)) * scale
        return Dense(E, tuple(seen.G[0].shape[1:]))

    def ekfac(problem: ek.Problem) -> dict[str, BlockDiagonal]:
        N = sum(len(y) for _, y in problem.batches)
        scale = factor(N, call(problem.model, problem.batches[0][0])[0].numel())
        return {
            name: BlockDiagonal(tuple(block(seen, scale) for seen in groups))
            for name, groups in remembered(problem).items()
        }

    return Subject("by hand", ekfac, abilities=DOUBLE)


def bases(seen: Observation) -> tuple[Tensor, Tensor]:
    """Eigenvectors of B and A; a constant factor of either is no matter."""
    if isinstance(seen.sharing, ek.Expand):
        rows_a = torch.cat([a[yes] for a, yes in zip(seen.a, seen.counted, strict=True)])
        rows_g = torch.cat([g.flatten(0, 1) for g in seen.g])
    else:
        pairs = zip(seen.a, seen.counted, strict=True)
        rows_a = torch.stack([a[yes].mean(0) for a, yes in pairs if yes.any()])
        rows_g = torch.cat([g.sum(1) for g in seen.g])
    return torch.linalg.eigh(rows_g.T @ rows_g)[1], torch.linalg.eigh(rows_a.T @ rows_a)[1]


def squares(G: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return (Q_B.T @ G @ Q_A).square().sum(0)


def assembled(Lambda: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """sum_oi Lambda_oi (q_o x q_i) (q_o x q_i)^T."""
    return torch.einsum("oi,bo,ai,do,ci->badc", Lambda, Q_B, Q_A, Q_B, Q_A).reshape(
        Lambda.numel(), -1
    )


def right(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return assembled(squares(torch.cat(seen.G), Q_B, Q_A) / len(seen.G), Q_B, Q_A)


def never_corrected(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """KFAC's own eigenvalues, B (x) A."""
    pairs = zip(seen.a, seen.counted, strict=True)
    if isinstance(seen.sharing, ek.Expand):
        a = torch.cat([a[yes] for a, yes in pairs])
        g = torch.cat([g.flatten(0, 1) for g in seen.g])
    else:
        a = torch.stack([a[yes].mean(0) for a, yes in pairs if yes.any()])
        g = torch.cat([g.sum(1) for g in seen.g])
    return torch.kron(g.T @ g / len(seen.g), a.T @ a / len(a))


def position_by_position(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    total = torch.zeros(len(Q_B), len(Q_A), dtype=torch.float64)
    for a, g in zip(seen.a, seen.g, strict=True):
        for t in range(len(a)):
            for c in range(len(g)):
                total += (Q_B.T @ torch.outer(g[c, t], a[t]) @ Q_A) ** 2
    return assembled(total / len(seen.a), Q_B, Q_A)


def summed(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    return assembled(squares(torch.cat(seen.G), Q_B, Q_A), Q_B, Q_A)


def eigenvalues_by_columns(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    """The vector of eigenvalues is read column by column, the basis row by row."""
    Lambda = squares(torch.cat(seen.G), Q_B, Q_A) / len(seen.G)
    return assembled(Lambda.T.reshape(Lambda.shape), Q_B, Q_A)


def mean_of_batch_means(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    means = []
    for number in set(seen.batch):
        mine = [G for G, batch in zip(seen.G, seen.batch, strict=True) if batch == number]
        means.append(squares(torch.cat(mine), Q_B, Q_A) / len(mine))
    return assembled(sum(means) / len(means), Q_B, Q_A)


HAND_MADE = {
    "never-corrected": never_corrected,
    "square-each-position": position_by_position,
    "sum-over-samples": summed,
    "column-order": eigenvalues_by_columns,
    "lambda-by-mean-of-batch-means": mean_of_batch_means,
}


FEW = tuple(
    Mutant(name, f"does {name}", "", subject(matrix).ekfac, ())
    for name, matrix in HAND_MADE.items()
)


def with_(name: str, matrix: Matrix) -> tuple[Mutant, ...]:
    """A part of the catalogue, with the mistake itself, if it is not in there under this name."""
    part = tuple(m for i, m in enumerate(MUTANTS.values()) if m.name in HAND_MADE or i % 8 == 0)
    if any(mutant.name == name for mutant in part):
        return part
    return (*part, Mutant(name, f"does {name}", "", subject(matrix).ekfac, ()))


@pytest.mark.parametrize("ask", [CORRECT.ekfac, ek.ekfac, subject(right).ekfac])
def test_a_correct_subject_gets_no_name(ask) -> None:
    found = diagnose(Subject("correct", ask))
    assert found.sentence == "Its EKFAC agrees with the definition."
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
    found = diagnose(subject(right, factor), FEW)
    correct = next(c for c in found.candidates if c.name == NO_MISTAKE)
    assert correct.exponents == exponents
    assert correct.error < 1e-12
    assert found.sentence.startswith(f"It is right up to a factor: {words}")


@pytest.mark.parametrize("name", HAND_MADE)
def test_the_mistake_is_ranked_first(name: str) -> None:
    catalogue = with_(name, HAND_MADE[name])
    found = diagnose(subject(HAND_MADE[name]), catalogue)
    first = found.candidates[0]
    assert (first.name, first.complexity) == (name, (0, 0))
    assert first.error < 1e-10
    assert "It looks as if the implementation " in found.sentence
    assert next(m.mistake for m in catalogue if m.name == name) in found.sentence


# Some of each kind among a part of the catalogue; ``python -m tests.kit.remade`` asks about all.
SOME = (
    *("unbiased", "square-each-position", "lambda-by-mean-of-batch-means", "eigenvectors-scaled"),
    *("factors-by-running-average", "inputs-of-next-sample", "bias-first", "root-transposed"),
)


@pytest.mark.parametrize("name", SOME)
def test_mistakes_made_in_the_example_of_hooks_are_ranked_first(name: str) -> None:
    part = [m for i, m in enumerate(MUTANTS.values()) if m.name in SOME or i % 4 == 0]
    found = diagnose(remade.subject(name), part)
    first = found.candidates[0]
    assert (first.name, first.complexity) == (name, (0, 0))
    assert first.error <= PRECISION.fits
    assert next(m.mistake for m in part if m.name == name) in found.sentence


def test_the_example_of_hooks_made_again_is_right() -> None:
    assert diagnose(remade.subject("correct")).sentence == "Its EKFAC agrees with the definition."


def test_twelve_problems_at_least_are_informative(monkeypatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (9,) * 3)
    draws = selection.draws(remade.subject("square-each-position"), PRECISION, 0)
    found = selection.enough(draws, positions=True)
    used = [c.question for c in selection.chosen(found)]
    informative = [
        all(N >= 3 and K >= 2 for N, _, K in q.sizes)
        and any(T >= 2 and d != e for (_, T, _), (d, e) in zip(q.sizes, q.shapes, strict=True))
        for q in used
    ]
    assert sum(informative) >= 12


@pytest.mark.parametrize(("matrix", "times"), [(right, 2), (never_corrected, 1)])
def test_more_is_drawn_while_the_subject_looks_right(matrix: Matrix, times: int) -> None:
    draw = next(selection.draws(subject(matrix), PRECISION, 0))
    assert len(selection.enough(iter([draw, draw]), False)) == times * len(draw)


def test_what_cancels_to_rounding_is_nothing() -> None:
    """The variance of samples that are all the same."""

    def variance(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        same = torch.cat([seen.G[0]] * 3)
        mean = squares(same.mean(0, keepdim=True), Q_B, Q_A)
        return assembled(squares(same, Q_B, Q_A) / len(same) - mean, Q_B, Q_A)

    draw = next(selection.draws(subject(variance), PRECISION, 0))
    one_column = [c for c in draw if len(next(iter(c.question.seen.values()))[0].G[0]) == 1]
    assert len(one_column) > 3
    assert not any(E.any() for c in one_column for E in c.given)


def test_what_agrees_on_few_problems_is_asked_about_more() -> None:
    tied = [Candidate(name, 1.0, (0.0, 0.0, 0.0), 0.0) for name in ("sum-over-samples", "other")]
    both = (*FEW, Mutant("other", "does another", "", subject(right).ekfac, ()))
    others = next(selection.draws(subject(summed), PRECISION, 0))
    one, other = search.told_apart(tied, both, others)
    assert one.error < 1e-12
    assert other.error > 0.1
    assert search.told_apart(tied[1:], both, others) == tied[1:]


def test_a_mistake_with_a_factor() -> None:
    found = diagnose(subject(position_by_position, lambda N, K: N / 2), FEW)
    first = found.candidates[0]
    assert (first.name, first.factor) == ("square-each-position", "N / 2")
    assert ", times N / 2: agreement " in found.sentence


def test_mutants_that_say_the_same_come_in_one_breath() -> None:
    one = Mutant("one", "does one thing", "", subject(position_by_position).ekfac, ())
    other = replace(one, name="other", mistake="does another")
    sentence = diagnose(subject(position_by_position), [one, other]).sentence
    assert "does one thing, or, which is the same here, does another: agreement" in sentence


def test_random_matrices_are_like_nothing() -> None:
    generator = torch.Generator().manual_seed(0)

    def random(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        P = len(Q_B) * len(Q_A)
        M = torch.randn(P, P, generator=generator, dtype=torch.float64)
        return M + M.T

    assert diagnose(subject(random), FEW).sentence.startswith("Nothing in the catalogue fits")


def test_the_nearest_is_told_where_nothing_fits() -> None:
    def nearly(seen: Observation, Q_B: Tensor, Q_A: Tensor) -> Tensor:
        E = right(seen, Q_B, Q_A)
        return E + 0.1 * torch.diag(E.diagonal())

    found = diagnose(subject(nearly), list(MUTANTS.values())[:1])
    assert "Nothing in the catalogue fits: the nearest is the definition itself" in found.sentence


def test_an_exception_of_a_mutant_fits_nothing() -> None:
    def fails(problem: ek.Problem) -> dict:
        raise ArithmeticError

    broken = Mutant("broken", "is broken", "", fails, ())
    found = diagnose(subject(position_by_position), [broken])
    assert [c.name for c in found.candidates] == [NO_MISTAKE]


def test_an_exception_of_the_subject_is_skipped() -> None:
    def reduces_only(problem: ek.Problem) -> dict:
        if isinstance(problem.sharing, ek.Expand):
            raise ValueError("sharing: only Reduce() is implemented; use that.")
        return subject(right, lambda N, K: N).ekfac(problem)

    found = diagnose(Subject("refuses", reduces_only, abilities=DOUBLE), [])
    assert found.sentence == "It is right up to a factor: times N."


def test_single_precision_has_its_own_thresholds() -> None:
    found = diagnose(
        Subject(
            "single", ek.ekfac, abilities=Abilities((torch.nn.Linear,), dtypes=(torch.float32,))
        )
    )
    assert found.sentence == "Its EKFAC agrees with the definition."


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
