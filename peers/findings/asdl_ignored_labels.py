"""ASDL: the exact Fisher counts samples whose label is ignore_index, in loss and configuration."""

import torch
from asdl import FISHER_EXACT, SHAPE_LAYER_WISE, FisherConfig, get_fisher_maker
from torch import nn

torch.manual_seed(0)
layer = nn.Linear(3, 4)
model, loss = nn.Sequential(layer), nn.CrossEntropyLoss(reduction="sum")
x, y = torch.randn(4, 3), torch.tensor([0, -100, 2, -100])

# tr J^T H J: over eigenvectors s of each sample's loss Hessian. An ignored label has no loss.
expected = torch.zeros(())
for xn, yn in zip(x, y, strict=True):
    f = model(xn[None])
    H = torch.autograd.functional.hessian(lambda f, yn=yn: loss(f, yn[None]), f.detach())[0, :, 0]
    values, vectors = torch.linalg.eigh(H)
    for value, vector in zip(values, vectors.T, strict=True):
        g = torch.autograd.grad(f[0] @ vector, [layer.weight, layer.bias], retain_graph=True)
        expected = expected + value * sum(part.square().sum() for part in g)

config = FisherConfig(FISHER_EXACT, [SHAPE_LAYER_WISE], "cross_entropy", data_size=1)
config.ignore_index = -100
maker = get_fisher_maker(model, config)
maker.setup_loss_call(loss, maker.setup_model_call(model, x), y)
maker.forward_and_backward()
print(f"expected {float(expected):.9g}, got {float(layer.fisher.data.trace()):.9g}")
