"""What a subject answers has to be real numbers of the right shape, in the right place."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct

Bad = Callable[[Tensor], Any]
BAD: dict[str, tuple[Bad, str]] = {
    "complex": (lambda X: X + 1000j, "numbers of torch.complex128, expected a dense"),
    "complex, imaginary part 0": (lambda X: X + 0j, "numbers of torch.complex128"),
    "integers": (lambda X: X.round().long(), "numbers of torch.int64"),
    "booleans": (lambda X: X > 0, "numbers of torch.bool"),
    "sparse": (lambda X: X.to_sparse(), "numbers of torch.sparse_coo"),
    "elsewhere": (lambda X: X.to("meta"), "on meta, expected the device of what it was given: cpu"),
    "NaN": (lambda X: X * torch.nan, "NaN or infinity"),
    "infinite": (lambda X: X / 0, "NaN or infinity"),
    "numpy": (lambda X: X.numpy(), "returned a ndarray, not a tensor"),
    "nothing": (lambda X: None, "returned a NoneType, not a tensor"),
    "transposed": (lambda X: X.T, "shape"),
    "flat": (lambda X: X.reshape(-1), "shape"),
    "in a batch of one": (lambda X: X[None], "shape"),
}


def problem() -> ek.Problem:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    x, y = torch.randn(4, 2).double(), torch.randn(4, 1).double()
    return ek.Problem(model, [(x[:2], y[:2]), (x[2:], y[2:])], ek.Gaussian())


def answering(**changed: Bad) -> Callable[[ek.Problem], dict[str, Any]]:
    """The reference's operators, with something else in one or more places."""

    def made(E: Any) -> SimpleNamespace:
        def matvec(V: Tensor) -> Any:
            return changed.get("matvec", lambda X: X)(E.matvec(V))

        def solve(V: Tensor, *, damping: float) -> Any:
            return changed.get("solve", lambda X: X)(E.solve(V, damping=damping))

        shown = {
            name: changed.get(name, lambda X: X)(getattr(E, name))
            for name in ("Q_B", "Q_A", "eigenvalues")
        }
        return SimpleNamespace(matvec=matvec, solve=solve, **shown)

    return lambda problem: {name: made(E) for name, E in ek.ekfac(problem).items()}


PLACES = ["matvec", "solve", "Q_B", "Q_A", "eigenvalues", "precondition"]
# The transpose of an orthonormal basis is one, too: the law eigenbasis judges it.
PAIRS = [(n, p) for n in BAD for p in PLACES if n != "transposed" or p not in ("Q_B", "Q_A")]


@pytest.mark.parametrize(("name", "place"), PAIRS)
def test_a_bad_answer_is_no_answer(name: str, place: str) -> None:
    bad, says = BAD[name]
    if name == "nothing" and place in ("Q_B", "Q_A", "eigenvalues"):
        found = ct.ask(answering(**{place: bad}), problem())
        assert "eigenbasis" not in found  # not offered
        assert found["trace"] is None
        return
    thing: Any = answering(**{place: bad})
    if place == "precondition":

        def precondition(one: ek.Problem, V: dict[str, Tensor], damping: float) -> dict[str, Any]:
            E = ek.ekfac(one)
            return {layer: bad(E[layer].solve(V[layer], damping=damping)) for layer in V}

        thing = ct.Subject("subject", ek.ekfac, precondition=precondition)
    with pytest.raises(ct.BadAnswer, match=says) as raised:
        ct.ask(thing, problem())
    assert "layer '0'" in str(raised.value) or "layer '2'" in str(raised.value)


@pytest.mark.parametrize("block", ["kfac", "exact_fisher"])
def test_a_complex_block_beside_it_is_no_answer(block: str) -> None:
    subject = ct.Subject("subject", ek.ekfac, **{block: answering(matvec=lambda X: X + 1000j)})
    with pytest.raises(ct.BadAnswer, match="complex128"):
        ct.ask(subject, problem(), ["kfac", "exact block"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_any_floating_dtype_will_do(dtype: torch.dtype) -> None:
    """A subject that computes in float64 throughout, or wants gradients, is no bad subject."""

    def ask(one: ek.Problem) -> dict[str, Any]:
        return {
            name: SimpleNamespace(matvec=lambda V, E=E: E.matvec(V).to(dtype).requires_grad_())
            for name, E in ek.ekfac(one).items()
        }

    question = problem()
    question.model.to(dtype)
    question.batches[:] = [(x.to(dtype), y.to(dtype)) for x, y in question.batches]
    assert not any(ct.ask(ask, question).values())
