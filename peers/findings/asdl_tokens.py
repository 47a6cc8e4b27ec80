"""ASDL: the layer-wise Fisher of a Linear on tokens takes every token for a sample."""

import torch
from asdl import FISHER_EMP, SHAPE_LAYER_WISE, FisherConfig, get_fisher_maker
from torch import nn


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


torch.manual_seed(0)
layer = nn.Linear(3, 4)
model, loss = nn.Sequential(layer, Mean()), nn.CrossEntropyLoss(reduction="sum")
x, y = torch.randn(5, 6, 3), torch.randint(4, (5,))

expected = torch.zeros(())  # the trace of F: the mean squared norm of a sample's gradient
for xn, yn in zip(x, y, strict=True):
    gradients = torch.autograd.grad(loss(model(xn[None]), yn[None]), [layer.weight, layer.bias])
    expected = expected + sum(g.square().sum() for g in gradients) / len(x)

maker = get_fisher_maker(model, FisherConfig(FISHER_EMP, [SHAPE_LAYER_WISE], data_size=len(x)))
maker.setup_loss_call(loss, maker.setup_model_call(model, x), y)
maker.forward_and_backward()
print(f"expected {float(expected):.9g}, got {float(layer.fisher.data.trace()):.9g}")
