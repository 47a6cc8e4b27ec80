"""On layers of any size, what equal eigenvalues leave free: no mistake, and nothing seen."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, adapted
from ekfac_ref.conformance.own_model.measured.spread import MARGIN
from ekfac_ref.conformance.own_model.trial import OwnTrial
from ekfac_ref.examples import reference
from studies.own_model.models import GPT, transformer
from tests.kit.test_own_model import net, opaque, turned


def broken(report: ct.Report) -> set[str]:
    return {v.law.name for v in report.verdicts if v.status is ct.Status.FAIL}


def few_samples(sign: int) -> ek.Problem:
    """Under Reduce, where gradients live in the null space of A: five of eight dimensions."""
    torch.manual_seed(0)
    x, y = torch.randn(3, 2, 8).double(), torch.randn(3, 2, 4).double()
    x[:, 1] = sign * x[:, 0] + 0.01 * x[:, 1]
    model = nn.Linear(8, 4, bias=False).double()
    return ek.Problem(model, [(x, y)], ek.Gaussian(), ek.Empirical(), ek.Reduce())


def test_another_basis_of_what_few_samples_leave_free_is_in_no_doubt() -> None:
    problem = few_samples(1)  # little is free: E is still told from others as a whole

    def answer(problem: ek.Problem) -> dict[str, Any]:
        (K,), (G,) = ek.kfac(problem).values(), (G[""] for G in ek.per_sample_gradients(problem))
        Q_B, Q_A = (torch.linalg.eigh(factor)[1] for factor in (K.B, K.A))
        Q_A[:, :5] = Q_A[:, :5] @ turned(5)  # the samples are in the other three columns
        return {"": Eigen(Q_B, Q_A, (Q_B.T @ G @ Q_A).square().sum(1).mean(0))}

    for seed in range(4):
        report = ct.check_on(adapted(answer), problem, laws=["comparison"], seed=seed)
        (comparison,) = report.verdicts
        assert (comparison.status, comparison.worst) == (ct.Status.PASS, 0.0)
    larger = ct.check_on(lambda p: {"": adapted(answer)(p)[""].scaled(1.1)}, problem)
    assert "comparison" in broken(larger)


@pytest.mark.shapes
def test_the_spread_inside_of_equal_eigenvalues_is_measured() -> None:
    problem = few_samples(-1)  # the mean input is small, and most of a gradient where A is zero
    (known,) = OwnTrial(reference, problem).measured()
    (G,) = (G[""] for G in ek.per_sample_gradients(problem))
    R = (known.B.Q.T @ G @ known.A.Q)[:, 0, :, :5]  # null space
    assert known.spread is not None
    for row, found in zip(R.unbind(1), known.spread[:, 0], strict=True):
        F = row.T @ row / 3
        exactly = float((F**2).sum() - F.trace() ** 2 / 5)
        assert exactly < found < 3 * MARGIN * exactly
    assert (known.uneven[:, 1:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_where_f_is_the_same_in_every_basis_products_tell(dtype: torch.dtype) -> None:
    """Of a Gaussian B is I, all of whose eigenvalues are equal, and so are those of F."""
    torch.manual_seed(0)
    x, y = torch.randn(40, 4, dtype=dtype), torch.randn(40, 3, dtype=dtype)
    problem = ek.Problem(
        nn.Linear(4, 3).to(dtype), [(x[:25], y[:25]), (x[25:], y[25:])], ek.Gaussian()
    )
    assert ct.check_on(lambda p: opaque(ek.ekfac(p)), problem).exit_code == 0

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        return opaque({name: E.scaled(1.01) for name, E in ek.ekfac(problem).items()})

    assert {"trace", "spectrum", "comparison"} <= broken(ct.check_on(wrong, problem))


class Bag(nn.Module):
    """Words, many of which occur equally often."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(60, 4), nn.Linear(4, 3)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.table(words).mean(1).tanh())


def words() -> ek.Problem:
    torch.manual_seed(0)
    x = torch.randperm(60)[:48].reshape(6, 8)  # every one once
    return ek.Problem(Bag().double(), [(x, torch.randint(3, (6,)))], ek.Categorical())


class Larger:
    """Products with an E that is too large in a layer, and what else goes with it or not."""

    def __init__(self, times: float, layer: str) -> None:
        self.times, self.layer = times, layer

    def ekfac(self, problem: ek.Problem) -> dict[str, Any]:
        return opaque(self._blocks(problem))

    def precondition(
        self, problem: ek.Problem, gradients: dict[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        blocks = self._blocks(problem)
        return {name: blocks[name].solve(V, damping=damping) for name, V in gradients.items()}

    def _blocks(self, problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem)
        blocks[self.layer] = blocks[self.layer].scaled(self.times)
        return blocks


def test_eigenvalues_that_are_not_compared_are_not_passed() -> None:
    """All that is compared there are zeros; and neither a solve nor a KFAC stands for E."""
    wrong = Larger(1.1, "table")
    for subject in (
        ct.Subject("E", wrong.ekfac),
        ct.Subject("E, P", wrong.ekfac, precondition=wrong.precondition),
        ct.Subject("E, K", wrong.ekfac, kfac=ek.kfac),
    ):
        report = ct.check_on(subject, words())
        assert (report.exit_code, report.unresolved) == (5, ("table",))
    shown = ct.check_on(lambda p: wrong._blocks(p), words())
    assert shown.exit_code == 1


def test_a_preconditioner_says_what_it_would_notice_of_e() -> None:
    """What is left of V - x d is all of E that a residual is a part of."""
    problem = transformer(6, 10, GPT(vocabulary=40, width=16, blocks=1, length=10))
    alone = ct.Subject("P", precondition=Larger(1.01, "head").precondition)
    assert ct.check_on(alone, problem).exit_code != 0


def test_a_preconditioner_in_any_basis_is_told_what_helps() -> None:
    problem = few_samples(-1)
    alone = ct.Subject("P", precondition=Larger(1.0, "").precondition)
    report = ct.check_on(alone, problem)
    assert report.exit_code == 5
    assert report.summary.endswith("; show E, too.")
    assert ct.check_on(replace(alone, ekfac=ek.ekfac), problem).exit_code == 0


class Uneven(nn.Module):
    """Layers whose E are of very different sizes, and one that no gradient reaches."""

    def __init__(self, times: float) -> None:
        super().__init__()
        self.times = times
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.dead = nn.Linear(4, 3)
        self.dead.bias.data -= 100

    def forward(self, x: Tensor) -> Tensor:
        inside = self.second(self.times * self.first(x).tanh()).tanh()
        return self.head(inside) + self.dead(x).relu()


def uneven(times: float) -> ek.Problem:
    torch.manual_seed(0)
    x, y = torch.randn(12, 4), torch.randint(3, (12,))
    return ek.Problem(Uneven(times), [(x, y)], ek.Categorical())


@pytest.mark.parametrize("damping", [ct.Definition().damping, ct.OnKFAC()], ids=str)
def test_a_preconditioner_alone_gets_a_verdict_in_float32(damping: Any) -> None:
    problem = uneven(0.03)
    blocks_of = ek.kfac if damping == ct.OnKFAC() else ek.ekfac

    def larger(times: float, layer: str) -> ct.Subject:
        def solve(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
            blocks = blocks_of(problem)
            blocks[layer] = blocks[layer].scaled(times)
            return {name: blocks[name].solve(x, damping=damping) for name, x in V.items()}

        return ct.Subject("P", precondition=solve, definition=ct.Definition(damping=damping))

    assert ct.check_on(larger(1.0, "first"), problem).exit_code == 0
    for layer in ("first", "second", "head"):
        assert broken(ct.check_on(larger(1.1, layer), problem)) == {"precondition"}, layer


def test_blocks_on_which_no_law_tells_are_not_called_right_beside_wrong_ones() -> None:
    def wrong(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
        blocks = ek.ekfac(problem).items()
        return {name: E.scaled(1.5).solve(V[name], damping=damping) for name, E in blocks}

    report = ct.check_on(ct.Subject("P", precondition=wrong), uneven(1e-8), laws=["precondition"])
    assert report.unresolved == ("first",)
    assert broken(report) == {"precondition"}
    assert "0 of 1 others" in report.sentences[0]  # of nothing, 1.5 times as much
    (score,) = (one for one in report.scoreboard if one.name == "layer first")
    assert score.held == 0


def test_no_damping_is_lost_beside_the_largest_eigenvalue() -> None:
    """Whoever adds both and inverts has nothing to invert there, and is right elsewhere."""
    problem, asked = uneven(1e-8), list[float]()

    def inverts(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
        asked.append(damping)
        found = {}
        for name, E in ek.ekfac(problem).items():
            damped = E.dense() + damping * torch.eye(E.shape[0] * E.shape[1])
            found[name] = torch.linalg.solve(damped, V[name].reshape(-1)).reshape(E.shape)
        return found

    report = ct.check_on(ct.Subject("P", precondition=inverts), problem)
    largest = max(float(E.eigenvalues.max()) for E in ek.ekfac(problem).values())
    assert min(asked) > 10 * torch.finfo(torch.float32).eps * largest
    assert (report.exit_code, report.unresolved) == (5, ("first",))


def of_groups(changed: Any) -> ct.Subject:
    """Operators of whole layers, one of which has two groups; what becomes of that one's."""

    def ekfac(problem: ek.Problem) -> dict[str, Any]:
        blocks: dict[str, Any] = {
            name: SimpleNamespace(matvec=E.matvec, solve=E.solve)
            for name, E in ek.ekfac(problem).items()
        }
        changed(blocks["0"])
        return blocks

    return ct.Subject("whole layers", ekfac)


def coupled(E: Any) -> None:
    right = E.matvec
    E.matvec = lambda V: right(V) + 0.1 * right(V).roll(3, 0)


def solves_another(E: Any) -> None:
    right = E.solve
    E.solve = lambda V, *, damping: right(V, damping=2 * damping)


@pytest.mark.parametrize(("changed", "law"), [(coupled, "linear"), (solves_another, "solve")])
def test_what_an_operator_of_a_whole_layer_does_to_groups_is_judged(changed: Any, law: str) -> None:
    assert ct.check_on(of_groups(lambda E: None), net()).exit_code == 0
    assert broken(ct.check_on(of_groups(changed), net())) == {law}


def test_products_that_are_not_those_of_the_blocks_that_are_shown_are_noticed() -> None:
    def ekfac(problem: ek.Problem) -> dict[str, Any]:
        found: dict[str, Any] = dict(ek.ekfac(problem))
        E = found["0"]
        found["0"] = SimpleNamespace(blocks=E.blocks, matvec=lambda V: E.matvec(V.roll(3, 0)))
        return found

    assert broken(ct.check_on(ekfac, net())) == {"linear"}
