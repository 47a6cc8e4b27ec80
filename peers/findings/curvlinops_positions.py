"""curvlinops: the empirical Fisher of outputs at positions has every position for a sample."""

import torch
from curvlinops import EFLinearOperator
from torch import nn

torch.manual_seed(0)
model, loss = nn.Linear(3, 2).double(), nn.BCEWithLogitsLoss(reduction="sum")
x, y = torch.randn(4, 5, 3).double(), torch.randint(2, (4, 5, 2)).double()  # five positions each
parameters = dict(model.named_parameters())
v = [torch.randn_like(p) for p in parameters.values()]

expected = torch.zeros(())  # v^T F v: of every sample the square of one number
for xn, yn in zip(x, y, strict=True):
    gradient = torch.autograd.grad(loss(model(xn[None]), yn[None]), list(parameters.values()))
    expected = expected + sum((g * w).sum() for g, w in zip(gradient, v, strict=True)) ** 2

product = EFLinearOperator(model, loss, list(parameters.values()), [(x, y)]) @ v
got = sum((p * w).sum() for p, w in zip(product, v, strict=True))
print(f"expected {float(expected):.9g}, got {float(got):.9g}")
