"""curvlinops: EKFAC of a grouped Conv2d corrects eigenvalues with inputs averaged over groups."""

import torch
from curvlinops import EKFACLinearOperator
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(4, 4, 2, groups=2), nn.Flatten()).double()
x, y = torch.randn(4, 4, 3, 3).double(), torch.randint(16, (4,))
loss, parameters = nn.CrossEntropyLoss(), list(model.parameters())

# The trace of EKFAC is that of the Fisher: here the mean squared norm of a sample's gradient.
expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    gradients = torch.autograd.grad(loss(model(xn[None]), yn[None]), parameters)
    expected = expected + sum(g.square().sum() for g in gradients) / len(x)

ekfac = EKFACLinearOperator(model, loss, parameters, [(x, y)], fisher_type="empirical")
print(f"expected {float(expected):.9g}, got {float(ekfac.trace):.9g}")
