"""What the first update finds out about a model is not tried again; its numbers are checked all
the same.
"""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.model.batched.forward_pass import ForwardPass
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.optim import EKFACPreconditioner, KFACPreconditioner
from tests.support.experts import Experts

FORWARDS: list[int] = []  # sizes of the batches that it was called on


class Counting(nn.Linear):
    """Notes every call, of its copies too."""

    def forward(self, x: Tensor) -> Tensor:
        FORWARDS.append(len(x))
        return super().forward(x)


def batch(size: int) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 3), torch.randn(size, 2)


def forwards(preconditioner: EKFACPreconditioner | KFACPreconditioner, size: int) -> list[int]:
    FORWARDS.clear()
    preconditioner.update(*batch(size))
    return [*FORWARDS]


@pytest.mark.parametrize("kind", [EKFACPreconditioner, KFACPreconditioner])
def test_later_updates_call_the_model_once(
    kind: type[EKFACPreconditioner | KFACPreconditioner],
) -> None:
    """What autograd says of the parameters is of the same forward pass."""
    model = nn.Sequential(Counting(3, 4), nn.Tanh(), nn.Linear(4, 2))
    preconditioner = kind(model, ek.Gaussian())
    assert len(forwards(preconditioner, 5)) > 2
    for size in (5, 7, 2):
        assert forwards(preconditioner, size) == [size]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_has_it_all_to_learn(copied) -> None:
    preconditioner = EKFACPreconditioner(nn.Sequential(Counting(3, 2)), ek.Gaussian())
    first = forwards(preconditioner, 5)
    assert forwards(copied(preconditioner), 5) == first
    assert forwards(preconditioner, 5) == [5]


@pytest.mark.filterwarnings("ignore:model. at sample 0 it is not clear")
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_takes_batches_that_leave_an_expert_out(copied) -> None:
    """As the original does, which has seen a batch that uses all."""
    torch.manual_seed(0)
    preconditioner = EKFACPreconditioner(Experts(), ek.Gaussian())
    x, y = torch.randn(5, 3, 4), torch.randn(5, 3)
    preconditioner.update(x, y)
    other = copied(preconditioner)
    for one in (preconditioner, other):
        one.update(torch.cat([x[..., :1].abs(), x[..., 1:]], -1), y)
    same = other.operators["expert.0"].eigenvalues
    torch.testing.assert_close(same, preconditioner.operators["expert.0"].eigenvalues)


def test_every_batch_is_held_to_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    preconditioner = EKFACPreconditioner(nn.Sequential(Counting(3, 2)), ek.Gaussian())
    preconditioner.update(*batch(5))
    right = ForwardPass.gradients
    monkeypatch.setattr(ForwardPass, "gradients", lambda *given: 2 * right(*given))
    with pytest.raises(ek.ProblemError, match="differ from those of autograd"):
        preconditioner.update(*batch(5))
    assert preconditioner.updates == 1


def test_a_replica_is_of_the_model_that_it_followed_last() -> None:
    """Whose parameters its forward may not reach."""
    first = nn.Linear(3, 2)
    second = copy.copy(first)
    replica = Replica(first, copy.deepcopy(first), ())
    assert replica.follows(second)
    assert replica.original is second
