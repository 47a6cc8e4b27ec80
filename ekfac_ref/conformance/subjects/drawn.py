r"""A question to a subject that draws labels for itself: what of its answer is known, and how well.

Every sample is there many times, and every copy gets labels of its own: so one answer is a mean
over many draws, as many as an error of F is to be noticed by. How it is made is the subject's own
business: it is told ``Sampled(draws, seed)`` and has any global generator, which the kit seeds.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import log

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.subjects.definition import Block, Definition, titles
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import content, observed, observed_exactly
from ekfac_ref.conformance.truth.drawn_labels import Concentration, copies, labels_of
from ekfac_ref.conformance.truth.observation import in_dtype
from ekfac_ref.conformance.truth.tolerance import LIMIT, factor_scales, fisher_scale, length
from ekfac_ref.model.forward import call
from ekfac_ref.model.random_state import undisturbed, untouched
from ekfac_ref.question.columns import Exact, Sampled
from ekfac_ref.question.likelihoods import Gaussian
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand

DRAWS = 4  # labels of each copy of a sample: a 1 / draws that is missing shows
MOST = 2**16  # draws in all; a form that would need more is not asked about
ALARMS, PROBLEMS = 1e-9, 400  # of a right subject in a run of so many problems, the full profile
COARSE = (torch.bfloat16,)


@dataclass(frozen=True, eq=False)
class Form:
    """A number <X, W> of an answer X, whose distribution over labels is known.

    Attributes:
        way: the answer that it is asked of.
        title: of the block.
        name: in a message, "tr F".
        weight: W, positive semidefinite; of B, [d_out, d_out], else [P, P].
        labels: how it concentrates.
        slack: by how much rounding may move it.
    """

    way: str
    title: str
    name: str
    weight: Tensor
    labels: Concentration
    slack: float


@dataclass(frozen=True, eq=False)
class Question:
    """What a subject is asked, and what of its answer is looked at.

    Attributes:
        problem: with every sample many times over, under ``Sampled(DRAWS, seed)``.
        blocks: {layer: its blocks}, of what layers see under the exact Fisher.
        forms: of all blocks and ways.
        seed: of the global generators.
        draws: n, of labels of a sample, in all.
        surprise: -log of how rare every single form has to be for the subject to be accused.
    """

    problem: Problem
    blocks: dict[str, list[Block]]
    forms: Sequence[Form]
    seed: int
    draws: int
    surprise: float


def question_of(definition: Definition, ways: Sequence[str], problem: Problem) -> Question | None:
    """None where nothing of the answer could be judged: labels are too many, or too rare."""
    labels = labels_of(problem) if ways and problem.dtype not in COARSE else None
    if labels is None:
        return None
    exact = replace(problem, fisher=Exact())
    blocks = definition.blocks(exact, observed(exact))
    outputs = _of_outputs(problem)
    jacobians = definition.blocks(outputs, observed_exactly(outputs))
    drafts = [
        (way, title, *numbers)
        for layer, of_layer in blocks.items()
        for title, block, J in zip(titles(layer, of_layer), of_layer, jacobians[layer], strict=True)
        for way in ways
        for numbers in _numbers(way, block, J)
    ]
    surprise = log(2 * max(1, len(drafts)) * PROBLEMS / ALARMS)
    forms, n = [], 1.0
    eps = torch.finfo(problem.dtype).eps
    for way, title, name, W, rows, scale, summands in drafts:
        M = [torch.einsum("krp,pq,lrq->kl", J, W, J) for J in rows]
        slack = (
            eps * (MOST + LIMIT * summands) * scale * float(torch.linalg.matrix_norm(W.abs(), 2))
        )
        form = Form(way, title, name, W, Concentration.of(labels, M), slack)
        needed = form.labels.needed(surprise, slack)
        if needed <= MOST:
            forms.append(form)
            n = max(n, needed)
    if not forms:
        return None
    times, seed = copies(n, len(labels), DRAWS), _seed(problem)
    many = [(tree_map(lambda v: torch.cat([v] * times), pair)) for pair in problem.batches]
    asked = replace(problem, fisher=Sampled(DRAWS, seed), batches=many)
    longer = {
        layer: [replace(one, seen=replace(one.seen, blur=float(times * DRAWS))) for one in of_layer]
        for layer, of_layer in blocks.items()
    }
    return Question(asked, longer, forms, seed, times * len(labels) * DRAWS, surprise)


_Number = tuple[str, Tensor, list[Tensor], float, int]  # name, W, J [K, rows, P], scale, summands


def _numbers(way: str, block: Block, outputs: Block) -> Iterator[_Number]:
    """What is known of a block, by the Jacobians of all outputs."""
    seen, summands = block.seen, length(block.seen)
    d_out, d_in = seen.shape
    if way == "sampled_kfac":
        g = [g if isinstance(seen.sharing, Expand) else g.sum(1, True) for g in outputs.seen.g]
        scale = factor_scales(seen)[0]
        yield "tr B", torch.eye(d_out).double(), g, scale, summands
        yield "w^T B w", _direction(d_out, 1), g, scale, summands
        return
    J, scale = [G.flatten(1)[:, None] for G in outputs.seen.G], fisher_scale(seen)
    yield "tr F", torch.eye(d_out * d_in).double(), J, scale, summands
    if way == "sampled_ekfac":
        A = oracle.factors(seen)[1]
        yield "tr F (I (x) A)", torch.kron(torch.eye(d_out).double(), A), J, scale, summands
        return
    for seed in (1, 2):
        yield "v^T F v", _direction(d_out * d_in, seed), J, scale, summands


def _direction(size: int, seed: int) -> Tensor:
    """v v^T for a v of length 1 at random."""
    v = torch.randn(size, generator=torch.Generator().manual_seed(seed)).double()
    return torch.outer(v, v) / v.square().sum()


def _of_outputs(problem: Problem) -> Problem:
    """One whose columns are the outputs themselves, so that a G is a row of the Jacobian."""
    batches = []
    with undisturbed(problem.batches):
        for x, _ in problem.batches:
            batches.append((x, torch.zeros_like(call(problem.model, x))))
    exact = replace(problem, batches=batches, likelihood=Gaussian(), fisher=Exact())
    return in_dtype(exact, torch.float64)


def _seed(problem: Problem) -> int:
    return int.from_bytes(content(problem).digest[:4], "big") // 2


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All global generators at a seed; afterwards they are as they were."""
    with untouched():
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield


def output_factor(K: Tensor, block_A: Tensor) -> Tensor | None:
    """The B of K = B (x) A, as near as there is one: <K, (. (x) A)> / |A|^2; None without an A."""
    d_in = len(block_A)
    d_out, size = len(K) // d_in, float(block_A.square().sum())
    if size == 0:
        return None
    return torch.einsum("oipj,ij->op", K.reshape(d_out, d_in, d_out, d_in), block_A) / size
