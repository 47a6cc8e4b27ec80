"""Products with the Fisher of all layers, and inverses: what is wrong with those made by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.declared.damping import Factored, OnKFAC
from ekfac_ref.conformance.diagnosis import selection
from tests.kit.test_only_tensors import product
from tests.support.partial_subjects import LINEAR, by_solve, ekfac, factored, kfac, once, solving

KFAC, FACTORED = by_solve(kfac), by_solve(once(solving(factored)))
ON_KFAC, BY_FACTORS = OnKFAC(), Factored()
NAMED = (
    *("empirical-for-exact", "block-by-columns", "damped-twice", "squared-damping"),
    *("sum-over-samples", "not-solved", "never-corrected", "kfac-in-the-other-order"),
)
MUTANTS = [ct.MUTANTS[name] for name in NAMED]
Vectors = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _fewer_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (6,))
    monkeypatch.setattr(selection, "WRITTEN_OUT_DRAWS", (12,))


def diagnosed(**what: Any) -> str:
    return ct.diagnose(ct.Subject("mine", abilities=LINEAR, **what), MUTANTS).sentence


def samples(problem: ek.Problem) -> int:
    return sum(len(y) for _, y in problem.batches)


def labelled(problem: ek.Problem) -> ek.Problem:
    return replace(problem, fisher=ek.Empirical())


def by_columns(ask: Callable[..., Vectors]) -> Callable[..., Vectors]:
    """The matrix of vec by columns, times vec by rows."""

    def answer(problem: ek.Problem, V: Vectors, *damping: float) -> Vectors:
        turned = {name: X.reshape(X.T.shape).T for name, X in V.items()}
        found = ask(problem, turned, *damping)
        return {name: x.T.reshape(x.shape) for name, x in found.items()}

    return answer


def times(ask: Callable[..., Vectors], factor: Callable[[ek.Problem], float]) -> Any:
    return lambda problem, *given: {
        name: factor(problem) * x for name, x in ask(problem, *given).items()
    }


def layer_by_layer(problem: ek.Problem, V: Vectors) -> Vectors:
    return {name: product(problem, {name: X})[name] for name, X in V.items()}


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (product, "Its product with the Fisher of all layers agrees with the definition."),
        (times(product, lambda problem: 2), "it is right up to a factor: times 2."),
        (times(product, samples), "it is right up to a factor: times N."),
        (lambda problem, V: product(labelled(problem), V), "uses the data's own labels for the"),
        (by_columns(product), "flattens gradients by columns in the exact block"),
        (layer_by_layer, "It is right within every layer, and wrong between layers."),
    ],
    ids=["right", "twice", "sum", "empirical", "columns", "layer by layer"],
)
def test_a_product_with_the_fisher_of_all_layers(ask: Any, says: str) -> None:
    sentence = diagnosed(fisher_product=ask)
    assert sentence.startswith("Its product with the Fisher of all layers")
    assert says in sentence


def no_pi(power: float) -> Any:
    return by_solve(once(solving(lambda *given: factored(*given, power=power))))


def summed(problem: ek.Problem) -> dict[str, Any]:
    return {name: block.scaled(samples(problem)) for name, block in ek.kfac(problem).items()}


AGREES = "Its preconditioner agrees with the definition."
OF_KFAC = [
    (KFAC, ON_KFAC, AGREES),
    (FACTORED, BY_FACTORS, AGREES),
    (by_solve(kfac, lambda d: 2 * d), ON_KFAC, "adds the damping twice in solves"),
    (by_solve(kfac, lambda d: d**2), ON_KFAC, "squares the damping"),
    (by_solve(once(solving(factored)), lambda d: 2 * d), BY_FACTORS, "adds the damping twice in"),
    (by_solve(once(solving(factored)), lambda d: d**2), BY_FACTORS, "squares the damping"),
    (no_pi(0.0), BY_FACTORS, "What it inverts is right, and the damping is not."),
    (no_pi(-1.0), BY_FACTORS, "What it inverts is right, and the damping is not."),
    (by_solve(kfac, lambda d: 3 * d), ON_KFAC, "What it inverts is right, and the damping is not."),
    (FACTORED, ON_KFAC, "It is right once Definition(damping=Factored()) is declared."),
    (KFAC, BY_FACTORS, "it is right once Definition(damping=OnKFAC()) is declared."),
    (by_solve(ekfac), ON_KFAC, "it is right once Definition(damping=Tikhonov()) is declared."),
    (times(KFAC, lambda problem: 2), ON_KFAC, "right up to a factor of the whole: times 2."),
    (times(FACTORED, lambda problem: 2), BY_FACTORS, "up to a factor of the whole: times 2."),
    (by_solve(once(summed)), ON_KFAC, "sums over samples (right: averages)"),
    (lambda p, *given: KFAC(labelled(p), *given), ON_KFAC, "uses the data's own labels for the"),
    (lambda p, *given: FACTORED(labelled(p), *given), BY_FACTORS, "uses the data's own labels"),
    (by_columns(KFAC), ON_KFAC, "has A (x) B for KFAC (right: B (x) A, where vec stacks rows)"),
    (lambda problem, V, damping: {n: X.clone() for n, X in V.items()}, ON_KFAC, "returns V ("),
]


@pytest.mark.parametrize(("ask", "how", "says"), OF_KFAC)
def test_a_preconditioner_of_kfac(ask: Any, how: Any, says: str) -> None:
    sentence = diagnosed(precondition=ask, definition=ct.Definition(damping=how))
    assert sentence.startswith("Its preconditioner")
    assert says.lower() in sentence.lower()


def test_a_preconditioner_beside_the_kfac_that_it_inverts() -> None:
    definition = ct.Definition(damping=ON_KFAC)
    twice = by_solve(kfac, lambda d: 2 * d)
    sentence = diagnosed(kfac=ek.kfac, precondition=twice, definition=definition)
    assert sentence.startswith("Its preconditioner: it looks as if the implementation adds the da")
    right = diagnosed(kfac=ek.kfac, precondition=KFAC, definition=definition)
    assert right.startswith("Its KFAC and preconditioner agree with the definition.")


def test_the_solve_of_an_operator_whose_matrix_is_right() -> None:
    twice = once(solving(lambda block, V, damping: block.solve(V, damping=2 * damping)))
    assert diagnosed(kfac=twice).startswith("Its KFAC's solve: it looks as if the implementation ")
    by_factors = once(solving(factored))
    declared = ct.Definition(damping=BY_FACTORS)
    assert diagnosed(kfac=by_factors, definition=declared).startswith("Its KFAC agrees with the")
    assert "Definition(damping=Factored()) is declared" in diagnosed(kfac=by_factors)


@pytest.mark.parametrize("way", ["ekfac", "exact_fisher"])
def test_a_right_solve_has_no_name(way: str) -> None:
    assert " agrees with the definition. " in diagnosed(**{way: getattr(ek, way)})
