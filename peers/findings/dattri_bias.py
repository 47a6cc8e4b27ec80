"""dattri: EK-FAC lays the biases among the weights, by a reshape of [W | b] as it is listed."""

import torch
from dattri.algorithm.influence_function import IFAttributorEKFAC
from dattri.task import AttributionTask
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model, x, y = nn.Sequential(nn.Linear(1, 2)), torch.zeros(8, 1), torch.randn(8, 2)


def loss(parameters, batch):
    return nn.functional.mse_loss(functional_call(model, parameters, (batch[0],)), batch[1])


# Inputs that are zero: no gradient of a sample has anything in W, so F is zero there, and v of W
# alone becomes v / damping. A is diag(0, 1), whose eigenvectors are the axes.
v = torch.tensor([[1.0, 1.0, 0.0, 0.0]])  # W[0], W[1], b[0], b[1]
expected = v[0, 1] / 0.1
ekfac = IFAttributorEKFAC(AttributionTask(loss, model, model.state_dict()), damping=0.1)
ekfac.cache(DataLoader(TensorDataset(x, y), batch_size=8))
got = ekfac.transform_test_rep(0, v)[0, 1]
print(f"expected {float(expected):.9g}, got {float(got):.9g}")
