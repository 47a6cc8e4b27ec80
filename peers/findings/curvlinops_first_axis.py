"""curvlinops: EKFAC takes a layer's first axis for the samples, also where tokens are folded in."""

import torch
from curvlinops import EKFACLinearOperator
from torch import nn


class Folded(nn.Sequential):
    def forward(self, x):  # [N, T, d], as many token-wise networks compute it
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2]).mean(1)


torch.manual_seed(0)
model, loss = Folded(nn.Linear(3, 4)).double(), nn.CrossEntropyLoss()
x, y = torch.randn(5, 6, 3).double(), torch.randint(4, (5,))
parameters = list(model.parameters())

# The trace of EKFAC is that of the Fisher: here the mean squared norm of a sample's gradient.
expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    gradients = torch.autograd.grad(loss(model(xn[None]), yn[None]), parameters)
    expected = expected + sum(g.square().sum() for g in gradients) / len(x)

ekfac = EKFACLinearOperator(model, loss, parameters, [(x, y)], fisher_type="empirical")
print(f"expected {float(expected):.9g}, got {float(ekfac.trace):.9g}")
