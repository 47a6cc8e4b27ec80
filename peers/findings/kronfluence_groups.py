"""kronfluence: Lambda of a grouped Conv2d is of inputs averaged over the groups."""

import tempfile

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments
from kronfluence.task import Task
from torch import nn
from torch.utils.data import TensorDataset

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(4, 4, 2, groups=2), nn.Flatten())
x, y = torch.randn(4, 4, 3, 3), torch.randint(16, (4,))


def loss(task, batch, model, sample=False):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")


Own = type("Own", (Task,), {"compute_train_loss": loss, "compute_measurement": loss})
expected = 0.0  # the sum of Lambda is the trace of the Fisher, squared norms of gradients
for n in range(4):
    value = loss(None, (x[n : n + 1], y[n : n + 1]), net)
    expected += sum(float(g.square().sum()) for g in torch.autograd.grad(value, net.parameters()))
analyzer = Analyzer("a", prepare_model(net, Own()), Own(), True, output_dir=tempfile.mkdtemp())
arguments = FactorArguments(use_empirical_fisher=True)
analyzer.fit_all_factors("f", TensorDataset(x, y), 4, factor_args=arguments)
got = analyzer.load_lambda_matrices("f")["lambda_matrix"]["0"].sum()
print(f"expected {expected:.9g}, got {float(got):.9g}")
