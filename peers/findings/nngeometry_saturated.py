"""nngeometry: FIM of saturated logits is NaN, the root of a rounding error below zero."""

import torch
from nngeometry.metrics import FIM
from nngeometry.object import PMatDense
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model, x = nn.Sequential(nn.Linear(3, 5)), 20 * torch.randn(50, 3)

expected = torch.zeros(())  # tr F = sum_c p_c |grad log p_c|^2, its mean over samples
for xn in x:
    log_p = model(xn[None]).log_softmax(1)[0]
    for value in log_p:
        g = torch.autograd.grad(value, model.parameters(), retain_graph=True)
        expected = expected + value.exp().detach() * sum(part.square().sum() for part in g) / len(x)

got = FIM(model, DataLoader(TensorDataset(x), batch_size=50), PMatDense).trace()
print(f"expected {float(expected):.9g}, got {float(got):.9g}")
