r"""The raw material of every verdict: a, g and G of one layer (one group), sample by sample.

Taken in float64 from a float64 copy of the problem, whatever dtype the subject computes in, and
kept as lists over samples, because T and C may differ between them. The a and g come by ``taps``
and the G by ``gradients``, two ways that share nothing but the model; that they agree, sum_t g a^T
= G, is a law like the others.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.problems.changed import recut
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.model.gradients import gradients
from ekfac_ref.model.random_state import generators, untouched
from ekfac_ref.model.session import open_session
from ekfac_ref.model.taps import tap
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Sharing

BUDGET = 2**24  # bytes; observed problems are small


@dataclass(frozen=True, eq=False)
class Observation:
    """What one layer (group) saw of every sample n.

    Attributes:
        a: [T_n, d_in] each, inputs with the homogeneous 1 last.
        g: [C_n, T_n, d_out] each, output gradients of <f_n, s_nc>.
        counted: [T_n] each, which positions count.
        G: [C_n, d_out, d_in] each, gradients with respect to [W | b].
        sharing: the problem's.
        dtype: of the model and the data that the subject gets.
        batch: number of the batch that each sample came in. Nothing correct depends on it.
        wobble_a: [T_n] each, how far rounding moves a, in units of roundoff: the norm of what a
            replay makes of it less a, over the replay's roundoff; the largest of several. A network
            can amplify rounding at will, and this is by how much this one does.
        wobble_g: [C_n, T_n] each, the same for g.
        runs: positions come in so many runs of equal length, and Reduce averages the inputs of each
            on its own: the groups of a layer with one A for all (``definition.py``).
    """

    a: list[Float[Tensor, "_T d_in"]]
    g: list[Float[Tensor, "_C _T d_out"]]
    counted: list[Bool[Tensor, " _T"]]
    G: list[Float[Tensor, "_C d_out d_in"]]
    sharing: Sharing
    dtype: torch.dtype
    batch: list[int]
    wobble_a: list[Float[Tensor, " _T"]]
    wobble_g: list[Float[Tensor, "_C _T"]]
    runs: int = 1

    @property
    def algebra(self) -> torch.dtype:
        """Of the subject's matrices, and of what they are multiplied with."""
        return algebra_dtype(self.dtype)


def observe(problem: Problem) -> dict[str, list[Observation]]:
    """{layer: one Observation per group}."""
    dtype = problem.dtype
    with torch.inference_mode(False), torch.no_grad(), untouched(*generators(problem.batches)):
        exact = in_float64(problem)
        seen = look(exact, dtype)
        _add_gradients(exact, seen)
        # In another order of summation too: where ReLU's kink is near, that can move g altogether.
        replays = ((problem, torch.float32), (recut(problem), dtype))
        rounded = [(look(in_dtype(p, of), dtype), of) for p, of in replays]
    for name, groups in seen.items():
        for k, one in enumerate(groups):
            others = [(replay[name][k], torch.finfo(of).eps) for replay, of in rounded]
            one.wobble_a.extend(_wobble(one.a, [(other.a, unit) for other, unit in others]))
            one.wobble_g.extend(_wobble(one.g, [(other.g, unit) for other, unit in others]))
    return seen


def glance(problem: Problem) -> dict[str, list[Observation]]:
    """The same for those who judge nobody: G = sum_t g a^T, and no account of rounding.

    That leaves out most of the work.
    """
    dtype = problem.dtype
    with torch.inference_mode(False), torch.no_grad(), untouched(*generators(problem.batches)):
        seen = look(in_float64(problem), dtype)
    for one in (one for groups in seen.values() for one in groups):
        for a, g in zip(one.a, one.g, strict=True):
            one.G.append(torch.einsum("cto,ti->coi", g, a))
            one.wobble_a.append(a.new_zeros(a.shape[:1]))
            one.wobble_g.append(g.new_zeros(g.shape[:2]))
    return seen


def look(problem: Problem, dtype: torch.dtype) -> dict[str, list[Observation]]:
    """Everything in the dtype of the problem; ``dtype`` is the subject's."""
    session = open_session(problem)
    seen: dict[str, list[Observation]] = {}
    for layer in session.layers:
        seen[layer.name] = [
            Observation([], [], [], [], problem.sharing, dtype, [], [], [])
            for _ in range(layer.groups)
        ]
    for number, (batch, form) in enumerate(session.batches()):
        tapped = tap(session.model, session.layers, form.uses, batch, session.columns)
        for name, taps in tapped.items():
            for group, observation in zip(taps, seen[name], strict=True):
                everything = torch.ones(group.a.shape[:2], dtype=torch.bool)
                counted = everything if group.counted is None else group.counted
                observation.a.extend(group.a)
                observation.g.extend(group.g)
                observation.counted.extend(counted)
                observation.batch.extend([number] * batch.size)
    return seen


def _add_gradients(problem: Problem, seen: dict[str, list[Observation]]) -> None:
    session = open_session(problem)
    for G in gradients(session, BUDGET):
        for layer in session.layers:
            by_group = G[layer.name].chunk(layer.groups, 2)
            for G_k, observation in zip(by_group, seen[layer.name], strict=True):
                observation.G.extend(G_k)


def _wobble(exact: list[Tensor], replays: list[tuple[list[Tensor], float]]) -> list[Tensor]:
    """Sample by sample, the largest over replays of the distance in units of roundoff."""
    moved = [
        [(x - y.double()).norm(dim=-1) / unit for x, y in zip(exact, replay, strict=True)]
        for replay, unit in replays
    ]
    return [torch.stack(of_sample).amax(0) for of_sample in zip(*moved, strict=True)]


def in_dtype(problem: Problem, dtype: torch.dtype) -> Problem:
    """The same problem with every floating-point number in this dtype."""
    model = copy.deepcopy(problem.model).to(dtype)
    return replace(problem, model=model, batches=_Converted(problem, dtype))


def in_float64(problem: Problem) -> Problem:
    """The same problem in float64."""
    return in_dtype(problem, torch.float64)


class _Converted:
    """The problem's batches, iterable again and again."""

    def __init__(self, problem: Problem, dtype: torch.dtype) -> None:
        self._problem, self._dtype = problem, dtype

    def __iter__(self) -> Iterator[Any]:
        for batch in self._problem.batches:
            yield tree_map(self._convert, tuple(batch))

    def _convert(self, x: Tensor) -> Tensor:
        return x.to(self._dtype) if x.dtype.is_floating_point else x
