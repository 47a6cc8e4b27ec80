"""curvlinops: (E)KFAC of a Conv2d sees zeros around the image, whatever padding_mode says."""

import torch
from curvlinops import EKFACLinearOperator
from torch import nn

torch.manual_seed(0)
conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
model = nn.Sequential(conv, nn.Flatten()).double()
x, y = torch.rand(4, 1, 3, 3).double(), torch.randint(18, (4,))
loss, parameters = nn.CrossEntropyLoss(), list(model.parameters())

# The trace of EKFAC is that of the Fisher: here the mean squared norm of a sample's gradient.
expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    gradients = torch.autograd.grad(loss(model(xn[None]), yn[None]), parameters)
    expected = expected + sum(g.square().sum() for g in gradients) / len(x)

ekfac = EKFACLinearOperator(model, loss, parameters, [(x, y)], fisher_type="empirical")
print(f"expected {float(expected):.9g}, got {float(ekfac.trace):.9g}")
