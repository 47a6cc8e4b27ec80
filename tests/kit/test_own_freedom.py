"""What equal eigenvalues leave free is no mistake on layers of any size, and is no rounding."""

from typing import Any

import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, adapted
from tests.kit.test_own_model import turned


def test_another_basis_of_what_few_samples_leave_free_is_in_no_doubt() -> None:
    """Under Reduce gradients live in the null space of A, where every basis is right."""
    torch.manual_seed(0)
    x, y = torch.randn(3, 2, 8).double(), torch.randn(3, 2, 4).double()
    x[:, 1] = x[:, 0] + 0.01 * x[:, 1]  # little of them: E is still told from others as a whole
    model = nn.Linear(8, 4, bias=False).double()
    problem = ek.Problem(model, [(x, y)], ek.Gaussian(), ek.Empirical(), ek.Reduce())

    def answer(problem: ek.Problem) -> dict[str, Any]:
        (K,), (G,) = ek.kfac(problem).values(), (G[""] for G in ek.per_sample_gradients(problem))
        Q_B, Q_A = (torch.linalg.eigh(factor)[1] for factor in (K.B, K.A))
        Q_A[:, :5] = Q_A[:, :5] @ turned(5)  # three samples are in the other three columns
        return {"": Eigen(Q_B, Q_A, (Q_B.T @ G @ Q_A).square().sum(1).mean(0))}

    for seed in range(4):
        report = ct.check_on(adapted(answer), problem, laws=["comparison"], seed=seed)
        (comparison,) = report.verdicts
        assert (comparison.status, comparison.worst) == (ct.Status.PASS, 0.0)
    shown = ct.check_on(lambda p: {"": adapted(answer)(p)[""].scaled(1.1)}, problem)
    assert {"comparison"} <= {v.law.name for v in shown.verdicts if v.status is ct.Status.FAIL}
