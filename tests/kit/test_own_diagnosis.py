"""What a trial on a model of one's own says of a mistake beside the laws that it breaks."""

import copy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, adapted
from ekfac_ref.conformance.own_model.looks import AS_SINGLE, IF_DRAWN

MANY = "several positions"


def images() -> ek.Problem:
    """Convolutions, at several positions each, and a head at one."""
    torch.manual_seed(0)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    convolutions = [nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 2, stride=2)]
    model = nn.Sequential(*convolutions, *pooled, nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    x, y = torch.randn(9, 3, 7, 7).double(), torch.randint(3, (9,))
    return ek.Problem(
        model.double(), [(x[:5], y[:5]), (x[5:], y[5:])], ek.Categorical(), ek.Empirical()
    )


def test_positions_are_told_beside_the_kind_of_layer_that_has_them() -> None:
    """A scale of 1/T looks like a mistake in convolutions, and is none."""

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem)
        return {name: E.scaled(0.9) if name in ("0", "2") else E for name, E in blocks.items()}

    sentence = ct.check_on(wrong, images(), laws=["spectrum"]).sentences[0]
    assert sentence.startswith(f"Wrong exactly where Conv2d (or {MANY}, which came with it)")


def test_who_is_broken_in_manners_alone_is_told_that_numbers_are_right() -> None:
    def draws(problem: ek.Problem) -> dict[str, Any]:
        torch.rand(1)
        return ek.ekfac(problem)

    report = ct.check_on(draws, images(), laws=["trace", "leaves alone"])
    assert report.exit_code == 1
    assert report.summary == (
        "It does not conform (broken: leaves alone); of the numbers that it answers none was found "
        "wrong."
    )
    alone = ct.check_on(draws, images(), laws=["leaves alone"])
    assert alone.summary == "It does not conform (broken: leaves alone)."


def tokens(dtype: torch.dtype = torch.float64, fisher: Any = None) -> ek.Problem:
    """Two layers at each of four tokens, a head at their mean."""
    torch.manual_seed(0)
    both = nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4)
    model = nn.Sequential(*both, ct.networks.TokenMean(), nn.Linear(4, 3)).to(dtype)
    x, y = torch.randn(9, 4, 5, dtype=dtype), torch.randn(9, 3, dtype=dtype)
    data = [(x[:6], y[:6]), (x[6:], y[6:])]
    return ek.Problem(model, data, ek.Gaussian(), ek.Empirical() if fisher is None else fisher)


def scaled(factor: float) -> Any:
    return lambda p: {name: E.scaled(factor) for name, E in ek.ekfac(p).items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("factor", "names"),
    [
        (4.0, "4, which is averaged(of_loss(sum_loss)) here; an adapter"),
        (9.0, "9, which is samples here; an adapter"),
        (1 / 9, "1/9, which is 1 / the number of samples here; an adapter"),
        (1 / 3, "1/3, which is 1 / the number of targets of a sample here; an adapter"),
        (1.234, "1.23; an adapter"),
        (0.7125, "0.713; an adapter"),
    ],
)
def test_a_scale_that_is_not_declared_is_told(dtype: Any, factor: float, names: str) -> None:
    report = ct.check_on(scaled(factor), tokens(dtype))
    assert report.exit_code == 1
    assert report.diagnosis.startswith("E is right up to a factor: times ")
    assert names in report.diagnosis
    assert f"Diagnosis: {report.diagnosis}" in report.sentences


class Doubled:
    """A likelihood of the user's own, of which torch has no loss: l = |f - y|^2."""

    def check(self, f: Tensor, y: Tensor) -> None:
        ek.Gaussian().check(f, y)

    def score(self, f: Tensor, y: Tensor) -> Tensor:
        return 2 * (f - y)

    def square_root(self, f: Tensor, y: Tensor) -> Tensor:
        return 2**0.5 * ek.Gaussian().square_root(f, y)

    def sample(self, f: Tensor, y: Tensor, rng: Any) -> Tensor:
        raise NotImplementedError


def test_a_factor_is_told_whatever_the_likelihood() -> None:
    problem = replace(tokens(), likelihood=Doubled())
    assert ct.check_on(ek.ekfac, problem).exit_code == 0
    assert ct.check_on(scaled(4.0), problem).diagnosis == (
        "E is right up to a factor: times 4; an adapter declares that in Convention(scale=...)."
    )


@pytest.mark.parametrize(("factor", "told"), [(1.005, "(1 + 0.005)"), (0.997, "(1 - 0.003)")])
def test_a_factor_near_one_is_told(factor: float, told: str) -> None:
    report = ct.check_on(scaled(factor), tokens())
    assert report.diagnosis.startswith(f"E is right up to a factor: times {told}; ")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_kfac_that_is_too_large_solves_no_worse(factor: float, dtype: Any) -> None:
    """What is solved is its own K, and rounding is of that."""

    def kfac(problem: ek.Problem) -> dict[str, Any]:
        return {name: K.scaled(factor) for name, K in ek.kfac(problem).items()}

    report = ct.check_on(ct.Subject("K", kfac=kfac), tokens(dtype))
    assert {v.law.name for v in report.verdicts if v.broken} == {"kfac", "factors"}


def test_a_factor_of_each_layers_own_is_told() -> None:
    """Of a KFAC divided by the positions, twenty-five and four in its layers."""
    positions = {"0": 25, "2": 4}

    def kfac(problem: ek.Problem) -> dict[str, Any]:
        found = ek.kfac(problem)
        return {n: K.scaled(1 / positions[n]) if n in positions else K for n, K in found.items()}

    report = ct.check_on(ct.Subject("by positions", kfac=kfac), images())
    assert report.diagnosis == (
        "K is right up to a factor on its 2 wrong blocks: times 1 / the number of positions."
    )


def test_single_precision_in_a_double_problem_is_told() -> None:
    def single(problem: ek.Problem) -> dict[str, Any]:
        data = [(x.float(), y.float()) for x, y in problem.batches]
        model = copy.deepcopy(problem.model).float()
        found = ek.ekfac(replace(problem, model=model, batches=data))
        parts = {n: Eigen(E.Q_B, E.Q_A, E.eigenvalues) for n, E in found.items()}
        return adapted(lambda problem: parts)(problem)

    report = ct.check_on(single, tokens())
    assert report.exit_code == 1
    assert report.diagnosis == AS_SINGLE


def test_labels_that_are_drawn_are_told() -> None:
    def draws(problem: ek.Problem) -> dict[str, Any]:
        seed = int(torch.randint(10**6, (1,)))
        return ek.ekfac(replace(problem, fisher=ek.Sampled(1, seed)))

    assert ct.check_on(draws, tokens(fisher=ek.Exact())).diagnosis == IF_DRAWN


def test_who_moves_a_random_state_and_is_right_in_some_layer_draws_no_labels() -> None:
    def wrong(problem: ek.Problem) -> dict[str, Any]:
        torch.rand(1)
        blocks = ek.ekfac(problem)
        Q = torch.linalg.qr(torch.randn(4, 4).double())[0]
        return {**blocks, "2": replace(blocks["2"], Q_B=Q)}

    report = ct.check_on(wrong, tokens(fisher=ek.Exact()))
    assert "broken: " in report.summary
    assert "commutes" in report.summary
    assert report.diagnosis == ""


def test_a_mistake_that_is_no_factor_is_not_called_one() -> None:
    def wrong(problem: ek.Problem) -> dict[str, Any]:
        found = ek.ekfac(problem)
        return {n: replace(E, eigenvalues=E.eigenvalues.flip(0, 1)) for n, E in found.items()}

    for fisher in (ek.Empirical(), ek.Exact()):
        report = ct.check_on(wrong, tokens(fisher=fisher))
        assert report.exit_code == 1
        assert report.diagnosis == ""
    one = ct.check_on(scaled(4.0), tokens(), known=dict.fromkeys(report_laws(scaled(4.0)), "4"))
    assert (one.exit_code, one.diagnosis) == (0, "")


def test_what_is_a_factor_but_for_a_small_eigenvalue_is_not_called_one() -> None:
    """It fits to a ten thousandth, and rounding would to less."""

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        found = ek.ekfac(problem)
        for name in ("0", "4"):  # of which A has full rank, and no eigenvalue is to be zero
            eigenvalues = 4 * found[name].eigenvalues
            eigenvalues.view(-1)[eigenvalues.argmin()] += 1e-4 * eigenvalues.norm()
            found[name] = replace(found[name], eigenvalues=eigenvalues)
        return found

    report = ct.check_on(wrong, tokens())
    assert report.exit_code == 1
    assert report.diagnosis == ""


def report_laws(subject: Any) -> list[str]:
    return [v.law.name for v in ct.check_on(subject, tokens()).verdicts if v.status.value == "FAIL"]


@pytest.mark.parametrize(
    ("declared", "missing"),
    [
        ({"fishers": (ek.Exact,)}, r"Empirical\(\), and abilities.fishers has Exact"),
        ({"sharings": (ek.Reduce,)}, r"Expand\(\), and abilities.sharings has Reduce"),
        (
            {"likelihoods": (ek.Categorical, ek.Poisson)},
            r"Gaussian\(\), and abilities.likelihoods has Categorical and Poisson",
        ),
        ({"dtypes": (torch.float32,)}, "torch.float64, and abilities.dtypes has torch.float32"),
    ],
)
def test_nobody_is_held_to_what_he_says_that_he_cannot_do(declared: Any, missing: str) -> None:
    subject = ct.Subject("part", ek.ekfac, abilities=ct.Abilities(**declared))
    with pytest.raises(ek.ProblemError, match=f"it has {missing}: 'part' would be held to"):
        ct.check_on(subject, tokens())


def test_who_declares_nothing_is_asked_about_whatever_there_is() -> None:
    """In bfloat16, say, which no subject is asked about unless it says so."""
    narrow = ct.Abilities(layers=(nn.Conv2d,), fishers=(ek.Empirical,))
    assert ct.check_on(ct.Subject("one", ek.ekfac, abilities=narrow), tokens()).exit_code == 0
    blunt = ct.check_on(ek.ekfac, tokens(torch.bfloat16), laws=["linear"])
    assert blunt.exit_code == 5
    assert "nothing could be told by linear" in blunt.summary


def bare(problem: ek.Problem) -> dict[str, Any]:
    return {n: SimpleNamespace(matvec=E.matvec) for n, E in ek.ekfac(problem).items()}


def test_who_is_asked_nothing_conforms_to_nothing() -> None:
    """What is not offered, and what is too blunt to tell, has not held."""
    none = "Inconclusive: nothing could be told by eigenvalues; ask all laws."
    one = ct.check_on(bare, tokens(), laws=["eigenvalues"])
    drawn = ct.check(bare, ct.Profile("few", 6, 0.1), laws=["eigenvalues"])
    assert (one.exit_code, one.summary) == (drawn.exit_code, drawn.summary) == (5, none)
    assert ct.check_on(bare, tokens(), laws=["trace", "eigenvalues"]).exit_code == 0
