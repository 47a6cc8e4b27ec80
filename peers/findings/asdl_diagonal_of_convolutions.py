"""ASDL: the diagonal Fisher of a Conv2d squares every position alone, where that saves memory."""

import torch
from asdl import FISHER_EMP, SHAPE_DIAG, FisherConfig, get_fisher_maker
from torch import nn

torch.manual_seed(0)
conv = nn.Conv2d(4, 8, 2)  # with 2 x 2 outputs: 4 (8 + 16) < 8 16
model, loss = nn.Sequential(conv, nn.Flatten()), nn.CrossEntropyLoss(reduction="sum")
x, y = torch.rand(5, 4, 3, 3), torch.randint(32, (5,))

expected = torch.zeros(())  # the gradient of a sample is a sum over positions: first that, squared
for xn, yn in zip(x, y, strict=True):
    (g,) = torch.autograd.grad(loss(model(xn[None]), yn[None]), [conv.weight])
    expected = expected + g.square().sum() / len(x)

maker = get_fisher_maker(model, FisherConfig(FISHER_EMP, [SHAPE_DIAG], data_size=len(x)))
maker.setup_loss_call(loss, maker.setup_model_call(model, x), y)
maker.forward_and_backward()
print(f"expected {float(expected):.9g}, got {float(conv.fisher.diag.weight.sum()):.9g}")
