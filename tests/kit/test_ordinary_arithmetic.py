"""Right answers in ordinary arithmetic are not accused, not even where they are nearly nothing."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, adapted
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS, perturbed
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.truth.tolerance import LIMIT, MISTAKE
from ekfac_ref.examples import reference
from ekfac_ref.examples.hooks import hook_ekfac
from studies.numerics import ordinary
from tests.independent import plain_loop
from tests.support.partial_subjects import once


class Twice(nn.Module):
    """Every output twice: whatever tells the two apart cancels on the way back."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x).tanh()
        return torch.cat([h, h], -1)


class Opposites(nn.Module):
    """Three hidden units whose contributions to the gradient of the first layer cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 1), nn.Linear(1, 3, bias=False)
        with torch.no_grad():
            self.second.weight.copy_(torch.tensor([[0.25], [0.5], [-0.75]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)).sum(-1, keepdim=True)


def sure(size: float, d_out: int) -> nn.Module:
    """A network that is the surer of itself the larger the size."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, d_out))
    with torch.no_grad():
        model[2].weight.mul_(size)
    return model


def problem(model: nn.Module, likelihood: Any, fisher: Any, dtype: torch.dtype) -> ek.Problem:
    x = torch.randn(6, 3).to(dtype)
    out = model.to(dtype)(x)
    if isinstance(likelihood, ek.Categorical):
        y = out.argmax(-1)  # where it is sure, it is right: p - y cancels
    else:
        y = (out > 0).to(dtype) if isinstance(likelihood, ek.Bernoulli) else out.detach().round()
    if isinstance(likelihood, ek.Poisson):
        y = y.abs()
    return ek.Problem(model, [(x[:4], y[:4]), (x[4:], y[4:])], likelihood, fisher)


def posed(name: str, fisher: Any, dtype: torch.dtype) -> ek.Problem:
    torch.manual_seed(0)
    models: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
        "twice": lambda: (Twice(), ek.Categorical()),
        "opposites": lambda: (Opposites(), ek.Gaussian()),
        "sure of a class": lambda: (sure(30, 3), ek.Categorical()),
        "nearly sure of a class": lambda: (sure(9, 3), ek.Categorical()),
        "certain": lambda: (sure(3000, 3), ek.Categorical()),
        "sure of a yes": lambda: (sure(30, 2), ek.Bernoulli()),
        "certain of a yes": lambda: (sure(300, 2), ek.Bernoulli()),
        "small rates": lambda: (sure(20, 2), ek.Poisson()),
        "nearly fitted": lambda: (sure(1, 2), ek.Gaussian()),
    }
    return problem(*models[name](), fisher, dtype)


POSED = [
    *("twice", "opposites", "sure of a class", "nearly sure of a class", "certain"),
    *("sure of a yes", "certain of a yes", "small rates", "nearly fitted"),
]


def remembering(subject: ct.Subject) -> ct.Subject:
    """Asked about equal problems once: several laws ask again, which is no matter of rounding."""
    return replace(subject, **{way: once(ask) for way, ask in subject.operators.items()})


# A root of its own where roots are taken, and last places where not. The others, on more problems:
# ``make numerics``.
CHOSEN = [
    (fisher, remembering(ordinary.SUBJECTS[n]))
    for fisher, n in ((ek.Exact(), 0), (ek.Empirical(), 4))
]


@pytest.mark.parametrize(("fisher", "subject"), CHOSEN, ids=["exact", "empirical"])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [(name, dtype) for name in POSED for dtype in (torch.float64, torch.float32)]
    + [(name, torch.bfloat16) for name in ("twice", "nearly sure of a class", "sure of a yes")],
    ids=str,
)
def test_nothing_is_accused(
    name: str, dtype: torch.dtype, fisher: Any, subject: ct.Subject
) -> None:
    found = ct.ask(subject, posed(name, fisher, dtype))
    assert not {law: str(error) for law, error in found.items() if error}
    assert "trace" in found


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", POSED)
def test_what_is_nearly_nothing_may_not_be_something(name: str, dtype: torch.dtype) -> None:
    """Wide scales still see a term of the size of those that cancel."""
    question = posed(name, ek.Exact(), dtype)

    def ask(one: ek.Problem) -> dict[str, Any]:
        return {
            layer: SimpleNamespace(matvec=lambda V, E=E: E.matvec(V) + 0.05 * V)
            for layer, E in ek.ekfac(one).items()
        }

    assert isinstance(ct.ask(ask, question, ["trace"])["trace"], ct.LawBroken)


def test_hooks_with_another_root() -> None:
    """Independent of the package: hooks, and the eigenvectors of the softmax's Hessian."""

    def columns(f: Tensor, y: Tensor, first: int) -> Tensor:
        p = f.softmax(-1)
        w, Q = torch.linalg.eigh(torch.diag_embed(p) - p[:, :, None] * p[:, None])
        return (Q * w.clamp(min=0).sqrt()[:, None]).mT

    def ask(one: ek.Problem) -> dict[str, Eigen]:
        found = hook_ekfac(one.model, one.layers, one.batches, columns)
        return {name: Eigen(*block) for name, block in found.items()}

    for name in ("twice", "sure of a class", "nearly sure of a class", "certain"):
        found = ct.ask(adapted(ask), posed(name, ek.Exact(), torch.float64))
        assert not [law for law, error in found.items() if error], name


def test_a_plain_loop_over_torchs_loss() -> None:
    def columns(loss: nn.Module, f: Tensor, y: Tensor) -> list[Tensor]:
        leaf = f.detach().requires_grad_()
        return list(torch.autograd.grad(loss(leaf, y), leaf))

    def ask(one: ek.Problem) -> dict[str, Any]:
        """F from the gradients of one sample at a time."""
        x, y = (torch.cat(parts) for parts in zip(*one.batches, strict=True))
        G = plain_loop.per_sample_gradients(one.model, x, y, nn.CrossEntropyLoss(), columns)
        v = {name: torch.stack(of_layer).flatten(2)[:, 0] for name, of_layer in G.items()}
        return {
            name: SimpleNamespace(
                matvec=lambda V, v=v_n: (v.T @ (v @ V.reshape(-1)) / len(v)).reshape(V.shape)
            )
            for name, v_n in v.items()
        }

    for name in ("sure of a class", "nearly sure of a class", "certain"):
        question = posed(name, ek.Empirical(), torch.float64)
        subject = replace(reference, exact_fisher=ask)
        assert ct.ask(subject, question, ["exact block"]) == {"exact block": None}


def asymmetric(E: Any, V: Tensor) -> Tensor:
    """A product with a matrix that is a rounding of float32 from symmetric."""
    units = torch.eye(V.numel()).reshape(-1, *V.shape).to(V)
    M = 1e6 * torch.stack([E.matvec(u).reshape(-1) for u in units]).double()
    M[0] *= 1 + 4e-8
    return (M @ V.double().reshape(-1)).to(V).reshape(V.shape)


def test_far_too_large_is_wrong_and_nothing_else() -> None:
    """What is said of a subject's own arithmetic is relative to its own size."""
    torch.manual_seed(0)
    question = problem(sure(1, 2), ek.Gaussian(), ek.Exact(), torch.float32)
    with torch.no_grad():
        question.model[2].weight.mul_(1e-6)  # so that F of the first layer is tiny

    def larger(one: ek.Problem) -> dict[str, Any]:
        return {name: E.scaled(1e9) for name, E in ek.ekfac(one).items()}

    def rounded(one: ek.Problem) -> dict[str, Any]:
        return {
            name: SimpleNamespace(matvec=lambda V, E=E: asymmetric(E, V))
            for name, E in ek.ekfac(one).items()
        }

    for subject in (larger, rounded):
        found = ct.ask(subject, question)
        assert {"trace", "moments"} <= {law for law, error in found.items() if error}
        mine = ["linear", "symmetry", "psd", "commutes", "recut", "order", "doubled"]
        assert not [law for law in mine if found[law]]
        assert not found.get("solve 1")


def off_by(roundings: float, question: ek.Problem) -> ct.Subject:
    """The reference, its scale wrong by so many times what rounding may do to the trace."""
    kind, error = PERTURBATIONS[0], 1e-6
    found = ct.ask(perturbed(reference, kind, error), question, ["trace"])["trace"]
    assert isinstance(found, ct.LawBroken)
    return perturbed(reference, kind, error * roundings / found.ratio)


@pytest.mark.parametrize(
    ("roundings", "verdict"),
    [(0.5 * LIMIT, type(None)), (45, ct.Doubt), (2 * MISTAKE, ct.LawBroken)],
)
def test_between_rounding_and_mistake_nobody_is_accused(roundings: float, verdict: type) -> None:
    question = posed("nearly fitted", ek.Exact(), torch.float64)
    found = ct.ask(off_by(roundings, question), question, ["trace"])["trace"]
    assert isinstance(found, verdict)
    assert verdict is not ct.Doubt or 40 < found.ratio < 50


def test_a_run_in_doubt_is_inconclusive(monkeypatch: pytest.MonkeyPatch) -> None:
    question = posed("nearly fitted", ek.Exact(), torch.float64)
    monkeypatch.setattr(
        "ekfac_ref.conformance.run.examiner.draw_problems", lambda *arguments: [question]
    )
    examiner = Here(off_by(45, question))
    run = Run(examiner, Profile("one", 1, 0.1), laws=[LAWS["trace"]])
    report = run.diagnosed(run.report())
    (verdict,) = report.verdicts
    assert verdict.status is ct.Status.IN_DOUBT
    assert verdict.problem.rebuilt is question
    assert 40 < verdict.worst < 50
    assert report.summary.startswith(
        "Inconclusive: neither rounding nor clearly a mistake in trace"
    )
    assert report.exit_code == 5
    assert not report.diagnosis
