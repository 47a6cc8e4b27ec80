"""Changed problems: those whose answer has to stay as it was, and those that have none."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.problems.designed.batching import held, holding
from ekfac_ref.model.copies.deep_copy import deep_copy
from ekfac_ref.model.copies.dtypes import inputs_in, model_in
from ekfac_ref.question.inputs import on_tensors, tensors_of
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian
from ekfac_ref.question.problem import Problem


def recut(problem: Problem) -> Problem:
    """The samples as they are, in batches of one."""
    return replace(problem, batches=_samples(problem))


def in_reverse(problem: Problem) -> Problem:
    """The samples in batches of one, the last sample first."""
    return replace(problem, batches=_samples(problem)[::-1])


def doubled(problem: Problem) -> Problem:
    """All batches, then all of them once more."""
    return replace(problem, batches=[*problem.batches, *problem.batches])


def jittered(problem: Problem, seed: int) -> Problem:
    """Every number of parameters and inputs up or down by one in its last place, or not."""
    generator = torch.Generator().manual_seed(seed)

    def moved(x: Tensor) -> Tensor:
        if not x.dtype.is_floating_point:
            return x
        direction = torch.randint(-1, 2, x.shape, generator=generator).double()
        return (x.double() * (1 + direction * torch.finfo(x.dtype).eps)).to(x.dtype)

    model = deep_copy(problem.model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(moved(parameter))
    pairs = [(on_tensors(moved, x), y) for x, y in held(problem.batches)]
    return replace(problem, model=model, batches=holding(problem.batches, pairs))


def in_dtype(problem: Problem, dtype: torch.dtype) -> Problem:
    """A copy of the problem with every floating-point number in this dtype."""
    return on_data_in(problem, model_in(deep_copy(problem.model), dtype), dtype)


def on_data_in(problem: Problem, model: nn.Module, dtype: torch.dtype) -> Problem:
    """The problem of this model, on a copy of the data with numbers in this dtype."""
    pairs = [inputs_in(tuple(pair), dtype) for pair in held(problem.batches)]
    return replace(problem, model=model, batches=holding(problem.batches, pairs))


def other_labels(problem: Problem) -> Problem:
    """Other legal values of every label that counts."""

    def other(y: Tensor) -> Tensor:
        if isinstance(problem.likelihood, Categorical):
            return torch.where(problem.likelihood.counted(y), torch.zeros_like(y), y)
        return 1 - y if isinstance(problem.likelihood, Bernoulli) else y + 1

    pairs = [(x, other(y)) for x, y in held(problem.batches)]
    return replace(problem, batches=holding(problem.batches, pairs))


def padded(problem: Problem) -> Problem:
    """Other numbers at every position that does not count."""

    def padded(x: Any) -> Any:
        assert problem.mask is not None
        counts = problem.mask(x)
        if counts is None:
            return x

        def fill(v: Tensor) -> Tensor:
            if not v.dtype.is_floating_point or v.shape[: counts.dim()] != counts.shape:
                return v
            return torch.where(counts.reshape(*counts.shape, *[1] * (v.dim() - counts.dim())), v, 7)

        return on_tensors(fill, x)

    return replace(problem, batches=[(padded(x), y) for x, y in problem.batches])


def _samples(problem: Problem) -> list[tuple[Any, Tensor]]:
    return [
        (on_tensors(partial(_sample, n), x), y[n : n + 1])
        for x, y in problem.batches
        for n in range(len(y))
    ]


def _sample(n: int, x: Tensor) -> Tensor:
    return x[n : n + 1]


def with_nan(problem: Problem) -> Problem:
    """NaN in the inputs of the first batch, or in a parameter where inputs are integers."""
    (x, y), *rest = problem.batches

    def nan(v: Tensor) -> Tensor:
        return torch.full_like(v, torch.nan) if v.dtype.is_floating_point else v

    model = deep_copy(problem.model)
    if not any(v.dtype.is_floating_point for v in tensors_of(x)):
        next(model.parameters()).data.fill_(torch.nan)  # token ids cannot be NaN
    return replace(problem, model=model, batches=[(on_tensors(nan, x), y), *rest])


def with_an_unknown_layer(problem: Problem) -> Problem:
    """The layer asked about is one that the model does not have."""
    return replace(problem, layers=("no such layer",))


def with_batch_norm(problem: Problem) -> Problem:
    """A model with a BatchNorm in train mode, which couples samples, between two Linear layers."""
    dtype = problem.dtype
    norm = nn.BatchNorm1d(2, affine=False)
    model = nn.Sequential(nn.Linear(2, 2), norm, nn.Linear(2, 1)).to(dtype)
    with torch.no_grad():  # one problem, whatever the global random state
        for p in model.parameters():
            p.copy_(torch.arange(1, 1 + p.numel()).reshape(p.shape) / 4)
    x, y = torch.arange(6).reshape(3, 2).to(dtype), torch.ones(3, 1).to(dtype)
    return Problem(model.train(), [(x, y)], Gaussian(), problem.fisher, problem.sharing)


def copied(problem: Problem) -> Problem:
    """A problem that the subject may do anything to."""
    pairs = [on_tensors(torch.clone, tuple(pair)) for pair in held(problem.batches)]
    batches = holding(problem.batches, pairs)
    return replace(problem, model=deep_copy(problem.model), batches=batches)
