"""BackPACK: DiagGGNExact of a Conv2d is that of zeros around the image, whatever padding_mode."""

import torch
from backpack import backpack, extend
from backpack.extensions import DiagGGNExact
from torch import nn

torch.manual_seed(0)
conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
model, loss = extend(nn.Sequential(conv, nn.Flatten())), extend(nn.MSELoss(reduction="sum"))
x, y = torch.rand(4, 1, 3, 3), torch.randn(4, 18)

# The Hessian of a sum of squares is 2 I: tr J^T 2 J, output by output of every sample.
expected = torch.zeros(())
for xn in x:
    for output in model(xn[None])[0]:
        (g,) = torch.autograd.grad(output, [conv.weight], retain_graph=True)
        expected = expected + 2 * g.square().sum()

with backpack(DiagGGNExact()):
    loss(model(x), y).backward()
print(f"expected {float(expected):.9g}, got {float(conv.weight.diag_ggn_exact.sum()):.9g}")
