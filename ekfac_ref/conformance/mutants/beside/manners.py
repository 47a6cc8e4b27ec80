"""Mistakes in what an answer leaves behind, and in answering where an exception is due."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from ekfac_ref.conformance.mutants.eigenpairs import eigenvectors
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import Around, with_bases
from ekfac_ref.conformance.subjects.subject import Answer, Ask
from ekfac_ref.question.problem import Problem


def _and_then(effect: Callable[[Problem], object]) -> Ask:
    """The right answer, and a side effect."""

    def wrap(ask: Ask) -> Ask:
        def answer(problem: Problem) -> Answer:
            found = ask(problem)
            effect(problem)
            return found

        return answer

    return Around(wrap).ekfac


def _to_another(question: Callable[[Problem], Problem]) -> Ask:
    """The right answer to another question."""
    return Around(lambda ask: lambda problem: ask(question(problem))).ekfac


def _to_its_data(effect: Callable[[Tensor], object]) -> Ask:
    """The right answer, and something to every tensor of real numbers, targets included."""
    return _and_then(
        lambda problem: [effect(x) for x in tree_leaves(_batches(problem)) if x.is_floating_point()]
    )


def _batches(problem: Problem) -> list[Any]:
    return [tuple(batch) for batch in problem.batches]


def _leave_gradients(problem: Problem) -> None:
    for parameter in problem.model.parameters():
        parameter.grad = torch.zeros_like(parameter)


class _Remembering:
    """Every factor gets the eigenvectors of the last one of its size, if there was one."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def __call__(self, factor: Tensor) -> Tensor:
        fresh = eigenvectors(factor)
        old = self._kept.get(len(factor), fresh)
        self._kept[len(factor)] = fresh
        return old


def _known_layers_only(problem: Problem) -> Problem:
    """Those of the problem's layers that the model has; all of the model's if it has none."""
    here = dict(problem.model.named_modules())
    known = tuple(name for name in problem.layers or () if name in here)
    return replace(problem, layers=known or None)


def _without_nan(problem: Problem) -> Problem:
    def numbers(x: Tensor) -> Tensor:
        return x.nan_to_num() if x.dtype.is_floating_point else x

    model = copy.deepcopy(problem.model)
    for parameter in model.parameters():
        parameter.data = numbers(parameter.data)
    batches = tree_map(numbers, _batches(problem))
    return replace(problem, model=model, batches=batches)


_left_behind = partial(Mutant, laws=("leaves alone",))

MANNERS = (
    _left_behind(
        name="gradients-left-behind",
        mistake="leaves .grad on the parameters (right: as it was before)",
        story="One loss.backward() on the caller's model, as the hooks of curvlinops@da9b5c9 did.",
        ekfac=_and_then(_leave_gradients),
    ),
    _left_behind(
        name="requires-grad-left-on",
        mistake="leaves requires_grad on the data (right: as it was before)",
        story="Switched on for the sake of hooks and never off again: curvlinops#301.",
        ekfac=_to_its_data(lambda x: x.requires_grad_(True)),
        only="data that is no integers",
    ),
    _left_behind(
        name="data-overwritten",
        mistake="changes the data in place (right: works on a copy)",
        story="kfac-pytorch@06af951 held on to live tensors; here the other way round, += on what "
        "belongs to the caller.",
        ekfac=_to_its_data(lambda x: x.add_(1.0)),
        only="data that is no integers",
    ),
    _left_behind(
        name="global-random-state",
        mistake="draws from the global random state (right: from one of its own)",
        story="curvlinops#292: labels drawn after a manual_seed, so that the caller's next numbers "
        "were others.",
        ekfac=_and_then(lambda problem: torch.rand(1)),
    ),
    Mutant(
        name="eigenvectors-of-the-call-before",
        mistake="keeps eigenvectors by the size of their factor (right: of this factor)",
        story="A cache that outlives its data: bergson@19ecf86 went on with stale factors, "
        "curvlinops#77 with a stale map of parameters.",
        ekfac=with_bases(_Remembering()),
        laws=("no memory", "eigenbasis", "commutes"),
        only="two factors of one size, or a second question",
    ),
    Mutant(
        name="nan-taken-for-zero",
        mistake="takes NaN for zero (right: raises an exception)",
        story="nan_to_num, put in against a training run that broke off; the answer is then that "
        "to another question.",
        ekfac=_to_another(_without_nan),
        laws=("nan",),
        only="NaN in the data",
    ),
    Mutant(
        name="batch-norm-in-eval-mode",
        mistake="answers for a model in train mode as if it were in eval mode (right: refuses, "
        "since its samples depend on one another)",
        story="nngeometry@6c3aee0, backpack#160 and Laplace#18 came to raise an error instead.",
        ekfac=_to_another(
            lambda problem: replace(problem, model=copy.deepcopy(problem.model).eval())
        ),
        laws=("batch norm",),
        only="BatchNorm in train mode",
    ),
    Mutant(
        name="unknown-layers-ignored",
        mistake="passes over layers that it cannot find (right: raises an exception)",
        story="A name that no hook is registered for is never missed; in kfac-pytorch#267 it was "
        "only when its factors were due.",
        ekfac=_to_another(_known_layers_only),
        laws=("unknown layer",),
        only="a name that the model does not have",
    ),
)
