"""BackPACK: DiagGGNExact counts samples whose label is CrossEntropyLoss's ignore_index."""

import torch
from backpack import backpack, extend
from backpack.extensions import DiagGGNExact
from torch import nn

torch.manual_seed(0)
layer = nn.Linear(3, 4)
model, loss = extend(nn.Sequential(layer)), extend(nn.CrossEntropyLoss(reduction="sum"))
x, y = torch.randn(4, 3), torch.tensor([0, -100, 2, -100])

# tr J^T H J: over eigenvectors s of each sample's loss Hessian. An ignored label has no loss.
expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    f = model(xn[None])
    plain = nn.CrossEntropyLoss(reduction="sum")
    H = torch.autograd.functional.hessian(lambda f, yn=yn: plain(f, yn[None]), f.detach())[0, :, 0]
    values, vectors = torch.linalg.eigh(H)
    for value, vector in zip(values, vectors.T, strict=True):
        (g,) = torch.autograd.grad(f[0] @ vector, [layer.weight], retain_graph=True)
        expected = expected + value * g.square().sum()

with backpack(DiagGGNExact()):
    loss(model(x), y).backward()
print(f"expected {float(expected):.9g}, got {float(layer.weight.diag_ggn_exact.sum()):.9g}")
