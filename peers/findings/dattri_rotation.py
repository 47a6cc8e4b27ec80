"""dattri: EK-FAC rotates by Q_S V Q_A^T, with Q^T and Q exchanged (eigh has vectors in columns)."""

import torch
from dattri.algorithm.influence_function import IFAttributorEKFAC
from dattri.task import AttributionTask
from torch import nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 1, bias=False))
x, y, v = torch.randn(6, 3), torch.randn(6, 1), torch.randn(1, 3)


def loss(parameters, batch):
    return nn.functional.mse_loss(functional_call(model, parameters, (batch[0],)), batch[1])


# One output: Lambda_i = mean (g_n a_n . q_i)^2, with q_i the eigenvectors of A = mean a_n a_n^T.
Q = torch.linalg.eigh(x.T @ x / len(x))[1]
G = 2 * (model(x) - y).detach() * x
expected = (v @ Q / ((G @ Q).square().mean(0) + 0.1)) @ Q.T
task = AttributionTask(loss, model, model.state_dict())
ekfac = IFAttributorEKFAC(task, damping=0.1)
ekfac.cache(DataLoader(TensorDataset(x, y), batch_size=6))
got = ekfac.transform_test_rep(0, v)
print(f"expected {float(expected[0, 0]):.9g}, got {float(got[0, 0]):.9g}")
