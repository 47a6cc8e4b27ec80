"""kronfluence: EKFAC of Linear and Conv2d, and the factors of its KFAC, of a summed loss.

Documented: a ``Task`` with a loss that is summed, by the labels of the data where
``use_empirical_fisher``, else by labels that it draws itself; the bias is the last input; matrices
come as sums with the counts to divide by; ``get_attention_mask`` is for positions; all parameters
of a layer are taken; modules by ``get_influence_tracked_modules``. dtypes are the model's here,
not the default float32.
"""

import copy
import gc
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments
from kronfluence.task import Task
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import averaged, of_loss
from ekfac_ref.conformance.adapter import sum_loss as summed
from ekfac_ref.matrix.operators import EigenKronecker, Kronecker
from peers.adapters.of_layer import OfGroups

# It collects garbage at every step; what is imported by now need not be gone through each time.
gc.freeze()


class _Task(Task):  # type: ignore[misc]
    def __init__(self, problem: ek.Problem, names: list[str]) -> None:
        self.problem, self.names = problem, names
        self.loss = summed(problem.likelihood)

    def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
        inputs, y = self.inputs(batch), batch[-1]
        f = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
        return self.loss(f, _drawn(self.problem.likelihood, f.detach(), y) if sample else y)

    def inputs(self, batch: Any) -> Any:
        """As the model takes them: by name, or by position."""
        x, _ = next(iter(self.problem.batches))
        return dict(zip(x, batch[:-1], strict=True)) if isinstance(x, dict) else tuple(batch[:-1])

    def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
        return self.compute_train_loss(batch, model)

    def get_influence_tracked_modules(self) -> list[str]:
        return self.names

    def get_attention_mask(self, batch: Any) -> Tensor | None:
        if self.problem.mask is None:
            return None
        x, _ = next(iter(self.problem.batches))
        inputs = self.inputs(batch)
        return self.problem.mask(inputs[0] if isinstance(x, Tensor) else inputs)


def _drawn(likelihood: Any, f: Tensor, y: Tensor) -> Tensor:
    """Labels from the model's distribution, as a user's task has to draw them."""
    if isinstance(likelihood, ek.Categorical):
        labels = torch.distributions.Categorical(logits=f.movedim(likelihood.class_axis, -1))
        return torch.where(y == likelihood.ignore_index, y, labels.sample())
    if isinstance(likelihood, ek.Gaussian):
        return f + torch.randn_like(f) / 2**0.5  # of a loss |f - y|^2, which is 2 l
    if isinstance(likelihood, ek.Bernoulli):
        return torch.bernoulli(f.sigmoid())
    return torch.poisson(f.exp())


def _parts(inputs: Any) -> tuple[Any, ...]:
    if isinstance(inputs, dict):
        return tuple(inputs.values())
    return inputs if isinstance(inputs, tuple) else (inputs,)


def _analyzed(problem: ek.Problem, strategy: str) -> dict[str, dict[str, Tensor]]:
    if problem.sharing != ek.Expand():
        raise NotImplementedError("KFAC of several positions is expand")
    layers = ek.find_layers(problem.model, problem.layers)
    modules = dict(problem.model.named_modules())
    for layer in layers:
        if any(not p.requires_grad for p in modules[layer.name].parameters(recurse=False)):
            raise NotImplementedError("a layer is taken with all of its parameters")
    rows = [(*_parts(x), y) for x, y in problem.batches]
    if (
        any(not isinstance(one, Tensor) for row in rows for one in row)
        or len({*map(len, rows)}) > 1
    ):
        raise NotImplementedError("inputs are tensors, as many in every batch")
    data = TensorDataset(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
    task = _Task(problem, [layer.name for layer in layers])
    model = prepare_model(copy.deepcopy(problem.model), task)
    dtype = torch.promote_types(problem.dtype, torch.float32)
    arguments = FactorArguments(
        strategy=strategy,
        use_empirical_fisher=isinstance(problem.fisher, ek.Empirical),
        activation_covariance_dtype=dtype,
        gradient_covariance_dtype=dtype,
        per_sample_gradient_dtype=dtype,
        lambda_dtype=dtype,
    )
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer("peer", model, task, cpu=True, disable_tqdm=True, output_dir=folder)
        analyzer.fit_all_factors("all", data, len(rows[0][-1]), factor_args=arguments)
        found = dict(analyzer.load_covariance_matrices("all"))
        if strategy == "ekfac":
            found |= analyzer.load_eigendecomposition("all")
            found |= analyzer.load_lambda_matrices("all")
    return found


def _ekfac(problem: ek.Problem) -> dict[str, OfGroups]:
    found = _analyzed(problem, "ekfac")

    def block(name: str) -> EigenKronecker:
        eigenvalues = found["lambda_matrix"][name] / found["num_lambda_processed"][name]
        Q_B, Q_A = (found[f"{of}_eigenvectors"][name] for of in ("gradient", "activation"))
        return EigenKronecker(Q_B.to(eigenvalues), Q_A.to(eigenvalues), eigenvalues)

    return _by_layer(problem, block)


def _kfac(problem: ek.Problem) -> dict[str, OfGroups]:
    found = _analyzed(problem, "kfac")

    def mean(of: str, name: str) -> Tensor:
        count = found[f"num_{of}_covariance_processed"][name]
        return found[f"{of}_covariance"][name] / count

    return _by_layer(
        problem, lambda name: Kronecker(mean("gradient", name), mean("activation", name))
    )


def _by_layer(problem: ek.Problem, block: Callable[[str], Any]) -> dict[str, Any]:
    """What is found of a layer; of a grouped one, each group's part of it."""
    scale = averaged(of_loss(summed))(problem)
    blocks = {}
    for layer in ek.find_layers(problem.model, problem.layers):
        whole = block(layer.name)
        blocks[layer.name] = (
            whole.scaled(1 / scale) if layer.groups == 1 else OfGroups(layer, whole.matvec, scale)
        )
    return blocks


_ABILITIES = ct.Abilities(
    layers=(nn.Linear, nn.Conv2d),
    fishers=(ek.Empirical,),
    sharings=(ek.Expand,),
    shared_weights=False,
)

ekfac = ct.Subject("kronfluence", _ekfac, abilities=_ABILITIES)
kfac = ct.Subject("kronfluence, KFAC", kfac=_kfac, abilities=_ABILITIES)
