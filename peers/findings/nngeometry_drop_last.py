"""nngeometry: with drop_last the sum over the batches that came is divided by all samples."""

import torch
from nngeometry.metrics import FIM
from nngeometry.object import PMatDense
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(5, 3)
loader = DataLoader(TensorDataset(x), batch_size=3, drop_last=True)  # x[:3], and no more

expected = torch.zeros(())  # tr F of a regression: squared gradients of outputs, their mean
for xn in x[:3]:
    for output in model(xn[None])[0]:
        g = torch.autograd.grad(output, model.parameters(), retain_graph=True)
        expected = expected + sum(part.square().sum() for part in g) / 3

got = FIM(model, loader, PMatDense, variant="regression").trace()
print(f"expected {float(expected):.9g}, got {float(got):.9g}")
