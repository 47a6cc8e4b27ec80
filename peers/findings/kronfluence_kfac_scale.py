"""kronfluence: KFAC of a layer used T times in a sample is T times too small beside its EKFAC."""

import tempfile

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments
from kronfluence.task import Task
from torch import nn
from torch.utils.data import TensorDataset

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(2, 3, 1, bias=False), nn.Flatten())
x, y = torch.eye(2).view(1, 2, 1, 2).repeat(4, 1, 1, 1), torch.randint(6, (4,))


def loss(task, batch, model, sample=False):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")


Own = type("Own", (Task,), {"compute_train_loss": loss, "compute_measurement": loss})
# Inputs are orthonormal, so tr B (x) A = tr F = mean_n |G_n|^2, and so is that of its EKFAC.
losses = [loss(None, (x[n : n + 1], y[n : n + 1]), net) for n in range(4)]
expected = sum(float(torch.autograd.grad(v, net[0].weight)[0].square().sum()) / 4 for v in losses)
arguments = FactorArguments("kfac", use_empirical_fisher=True)
analyzer = Analyzer("a", prepare_model(net, Own()), Own(), True, output_dir=tempfile.mkdtemp())
analyzer.fit_all_factors("f", TensorDataset(x, y), 4, factor_args=arguments)
found = analyzer.load_eigendecomposition("f")
got = found["activation_eigenvalues"]["0"].sum() * found["gradient_eigenvalues"]["0"].sum()
print(f"expected {expected:.9g}, got {float(got):.9g}")
