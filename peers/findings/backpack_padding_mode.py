"""BackPACK: gradients of samples of a Conv2d are those of zeros around the image."""

import torch
from backpack import backpack, extend
from backpack.extensions import BatchGrad
from torch import nn

torch.manual_seed(0)
conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
model, loss = (
    extend(nn.Sequential(conv, nn.Flatten())),
    extend(nn.CrossEntropyLoss(reduction="sum")),
)
x, y = torch.rand(4, 1, 3, 3), torch.randint(18, (4,))

expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    (g,) = torch.autograd.grad(loss(model(xn[None]), yn[None]), [conv.weight])
    expected = expected + g.square().sum()

with backpack(BatchGrad()):
    loss(model(x), y).backward()
print(f"expected {float(expected):.9g}, got {float(conv.weight.grad_batch.square().sum()):.9g}")
