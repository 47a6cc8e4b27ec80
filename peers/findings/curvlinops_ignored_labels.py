"""curvlinops: type-2 (E)KFAC counts samples whose label is CrossEntropyLoss's ignore_index."""

import torch
from curvlinops import EKFACLinearOperator
from torch import nn

torch.manual_seed(0)
model, loss = nn.Sequential(nn.Linear(3, 4)).double(), nn.CrossEntropyLoss(reduction="sum")
x, y = torch.randn(4, 3).double(), torch.tensor([0, -100, 2, -100])
parameters = list(model.parameters())

# tr J^T H J: over columns s of the root of each sample's loss Hessian, |J^T s|^2. An ignored
# label has no loss, hence no Hessian.
expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    f = model(xn[None])
    H = torch.autograd.functional.hessian(lambda f, yn=yn: loss(f, yn[None]), f.detach())[0, :, 0]
    values, vectors = torch.linalg.eigh(H)
    for value, vector in zip(values, vectors.T, strict=True):
        g = torch.autograd.grad(f[0] @ vector, parameters, retain_graph=True)
        expected = expected + value * sum(part.square().sum() for part in g)

ekfac = EKFACLinearOperator(model, loss, parameters, [(x, y)], fisher_type="type-2")
print(f"expected {float(expected):.9g}, got {float(ekfac.trace):.9g}")
