"""ASDL: EkfacGradientMaker leaves the gradient as it is: its step is the plain gradient."""

import torch
from asdl import FISHER_EMP, EkfacGradientMaker, PreconditioningConfig
from torch import nn

torch.manual_seed(0)
layer = nn.Linear(1, 1, bias=False)
model = nn.Sequential(layer)
x, y = torch.tensor([[2.0]]), torch.tensor([[1.0]])
loss = nn.MSELoss(reduction="sum")

# One sample, one weight: the Fisher is g^2, whatever the approximation, so the step is
# g / (g^2 + damping).
(g,) = torch.autograd.grad(loss(layer(x), y), [layer.weight])
expected = g / (g**2 + 0.5)

maker = EkfacGradientMaker(model, PreconditioningConfig(data_size=1, damping=0.5), FISHER_EMP)
maker.setup_loss_call(loss, maker.setup_model_call(model, x), y)
maker.forward_and_backward()
print(f"expected {float(expected):.9g}, got {float(layer.weight.grad):.9g}")
