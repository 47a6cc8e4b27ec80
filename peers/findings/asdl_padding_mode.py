"""ASDL: Fishers of a Conv2d are those of zeros around the image, whatever padding_mode says."""

import torch
from asdl import FISHER_EMP, SHAPE_LAYER_WISE, FisherConfig, get_fisher_maker
from torch import nn

torch.manual_seed(0)
conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")
model, loss = nn.Sequential(conv, nn.Flatten()), nn.CrossEntropyLoss(reduction="sum")
x, y = torch.rand(4, 1, 3, 3), torch.randint(18, (4,))

expected = torch.zeros(())  # the trace of F: the mean squared norm of a sample's gradient
for xn, yn in zip(x, y, strict=True):
    gradients = torch.autograd.grad(loss(model(xn[None]), yn[None]), [conv.weight, conv.bias])
    expected = expected + sum(g.square().sum() for g in gradients) / len(x)

maker = get_fisher_maker(model, FisherConfig(FISHER_EMP, [SHAPE_LAYER_WISE], data_size=len(x)))
maker.setup_loss_call(loss, maker.setup_model_call(model, x), y)
maker.forward_and_backward()
print(f"expected {float(expected):.9g}, got {float(conv.fisher.data.trace()):.9g}")
