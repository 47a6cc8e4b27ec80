"""An update changes nothing of the caller's: model, gradients, flags, buffers, random numbers."""

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot
from ekfac_ref.optim import EKFAC, KFAC


class Counting(nn.Module):
    """Has a buffer that its forward writes to, and a module under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again, self.norm = self.first, nn.BatchNorm1d(3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.norm(torch.tanh(self.again(torch.tanh(self.first(x)))))


@pytest.mark.parametrize("make", [EKFAC, KFAC])
@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Sampled(2), ek.Empirical()])
def test_nothing_changes(make, fisher) -> None:
    model = Counting().eval()
    model.norm.requires_grad_(False)
    model.register_forward_hook(lambda module, args, output: None)
    x, y = torch.randn(4, 3), torch.randint(3, (4,))
    optimizer = make(
        model, nn.CrossEntropyLoss(), lr=0.1, damping=0.1, momentum=0.0, kl_clip=None, fisher=fisher
    )
    model(x).sum().backward()
    before = snapshot(model, x, y)
    optimizer.update(x, y)
    optimizer.preconditioner.precondition(
        {n: p.grad for n, p in model.named_parameters() if p.requires_grad}, 0.1
    )
    _ = optimizer.state_dict(), optimizer.preconditioner.operators
    assert snapshot(model, x, y) == before
    with pytest.raises(ek.ProblemError):
        optimizer.update(x, y + 7)
    assert snapshot(model, x, y) == before
    with torch.inference_mode():
        optimizer.update(x, y)
    assert snapshot(model, x, y) == before
    assert optimizer.preconditioner.updates == 2
    optimizer.step()
    assert snapshot(model, x, y) != before
