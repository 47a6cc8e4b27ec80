"""ASDL: KFE.mvp rotates by U_B v U_A both ways: no transpose there, and none on the way back."""

import torch
from asdl import FISHER_EMP, SHAPE_KFE, FisherConfig, get_fisher_maker
from torch import nn

torch.manual_seed(0)
layer, loss = nn.Linear(3, 2, bias=False), nn.MSELoss(reduction="sum")
x, y, v = torch.randn(8, 3), torch.randn(8, 2), torch.randn(2, 3)
maker = get_fisher_maker(layer, FisherConfig(FISHER_EMP, [SHAPE_KFE], data_size=8))
maker.setup_loss_call(loss, maker.setup_model_call(layer, x), y)
maker.forward_and_backward()
kfe = layer.fisher.kfe

# With eigenvalues far below eps, (E + eps I)^-1 v is v / eps in whatever basis.
eps = 1e6
expected = v[0, 0] / eps
got = kfe.mvp(v.clone(), eps=eps)[0, 0]
print(f"expected {float(expected):.9g}, got {float(got):.9g}")
