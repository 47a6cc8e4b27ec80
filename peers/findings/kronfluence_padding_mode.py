"""kronfluence: EKFAC of a Conv2d has a basis of zeros around the image, whatever padding_mode."""

import tempfile

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments
from kronfluence.task import Task
from torch import nn
from torch.utils.data import TensorDataset

torch.manual_seed(0)
conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular", bias=False)
x, y = torch.rand(4, 1, 3, 3), torch.randint(18, (4,))


def loss(task, batch, model, sample=False):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")


Own = type("Own", (Task,), {"compute_train_loss": loss, "compute_measurement": loss})
patches = nn.functional.unfold(nn.functional.pad(x, (1, 1, 1, 1), mode="circular"), 3)
expected = patches.square().sum() / (4 * 9)  # tr A, a mean over samples and positions
model = prepare_model(nn.Sequential(conv, nn.Flatten()), Own())
analyzer = Analyzer("a", model, Own(), cpu=True, output_dir=tempfile.mkdtemp())
arguments = FactorArguments(use_empirical_fisher=True)
analyzer.fit_covariance_matrices("f", TensorDataset(x, y), 4, factor_args=arguments)
A = analyzer.load_covariance_matrices("f")["activation_covariance"]["0"] / (4 * 9)
print(f"expected {float(expected):.9g}, got {float(A.trace()):.9g}")
