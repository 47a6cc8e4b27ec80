"""ASDL: KFAC of a Linear on T tokens is T times too large, and that of a Conv2d is not."""

import torch
from asdl import FISHER_EMP, SHAPE_KRON, FisherConfig, get_fisher_maker
from torch import nn

torch.manual_seed(0)
layer = nn.Linear(2, 3, bias=False)
model, loss = nn.Sequential(layer, nn.Flatten()), nn.CrossEntropyLoss(reduction="sum")
x, y = torch.eye(2).repeat(4, 1, 1), torch.randint(6, (4,))  # two tokens each: a_1 = e_1, a_2 = e_2

# Inputs are orthonormal, so tr B (x) A = tr F, the mean squared norm of a sample's gradient.
expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    (g,) = torch.autograd.grad(loss(model(xn[None]), yn[None]), [layer.weight])
    expected = expected + g.square().sum() / len(x)

maker = get_fisher_maker(model, FisherConfig(FISHER_EMP, [SHAPE_KRON], data_size=len(x)))
maker.setup_loss_call(loss, maker.setup_model_call(model, x), y)
maker.forward_and_backward()
kron = layer.fisher.kron
print(f"expected {float(expected):.9g}, got {float(kron.A.trace() * kron.B.trace()):.9g}")
