"""BackPACK: with padding="same" gradients of samples have patches of other places in the image."""

import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad
from torch import nn

torch.manual_seed(0)
conv = nn.Conv1d(1, 2, 3, padding="same")
model, loss = (
    extend(nn.Sequential(conv, nn.Flatten())),
    extend(nn.CrossEntropyLoss(reduction="sum")),
)
x, y = torch.rand(4, 1, 5), torch.randint(10, (4,))

expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    (g,) = torch.autograd.grad(loss(model(xn[None]), yn[None]), [conv.weight])
    expected = expected + g.square().sum()

with backpack(BatchGrad()):
    loss(model(x), y).backward()
print(f"expected {float(expected):.9g}, got {float(conv.weight.grad_batch.square().sum()):.9g}")
