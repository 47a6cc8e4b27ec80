"""nngeometry: Fishers of a Conv2d are those of zeros around the image, whatever padding_mode."""

import torch
from nngeometry.metrics import FIM
from nngeometry.object import PMatDense
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten())
x = torch.rand(4, 1, 3, 3)

expected = torch.zeros(())  # tr F of a regression: squared gradients of outputs, their mean
for xn in x:
    for output in model(xn[None])[0]:
        g = torch.autograd.grad(output, model.parameters(), retain_graph=True)
        expected = expected + sum(part.square().sum() for part in g) / len(x)

loader = DataLoader(TensorDataset(x), batch_size=4)
got = FIM(model, loader, PMatDense, variant="regression").trace()
print(f"expected {float(expected):.9g}, got {float(got):.9g}")
