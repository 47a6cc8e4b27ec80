"""BackPACK: KFLR's B of a Conv2d is not |T| Gamma of KFC (1602.01407, eq. 32), as its note says."""

import torch
from backpack import backpack, extend
from backpack.extensions import KFLR
from torch import nn

torch.manual_seed(0)
conv = nn.Conv2d(1, 2, 2)
model = extend(nn.Sequential(conv, nn.Flatten(), nn.Linear(8, 3)))
loss = extend(nn.MSELoss(reduction="sum"))
x, y = torch.rand(4, 1, 3, 3), torch.randn(4, 3)

# |T| Gamma is the sum over positions t of outer products of gradients g_t of the convolution's
# output: its trace is sum_t |g_t|^2, summed over samples and outputs, times the Hessian, 2 I.
expected = torch.zeros(())
for xn in x:
    h = conv(xn[None])
    for output in model[1:](h)[0]:
        (g,) = torch.autograd.grad(output, [h], retain_graph=True)
        expected = expected + 2 * g.square().sum()

with backpack(KFLR()):
    loss(model(x), y).backward()
print(f"expected {float(expected):.9g}, got {float(conv.weight.kflr[0].trace()):.9g}")
