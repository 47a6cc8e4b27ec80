r"""A question to a subject that draws labels for itself: what of its answer is known, and how well.

Every sample is there many times, and every copy gets labels of its own: so one answer is a mean
over as many draws as an error of F is to be noticed by. How it is made is the subject's own
business: it is told ``Sampled(draws, seed)`` and has any global generator, which the kit seeds.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ekfac_ref.conformance.problems.changed import in_dtype
from ekfac_ref.conformance.subjects.answered import Answered, answered_blocks
from ekfac_ref.conformance.subjects.definition import Block, Definition, titles
from ekfac_ref.conformance.subjects.subject import SAMPLED, Answer, Subject
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed, observed_exactly
from ekfac_ref.conformance.truth.drawn_labels import Concentration, labels_of
from ekfac_ref.conformance.truth.tolerance import LIMIT, factor_scales, fisher_scale, length
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import call
from ekfac_ref.model.random_state import undisturbed, untouched
from ekfac_ref.question.columns import Exact, Sampled
from ekfac_ref.question.likelihoods import Gaussian
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand

# Labels of each copy that are asked for: a factor of 1 / draws that is missing shows. Only one of
# them is counted on, for who draws a single label, whatever is asked, is no less right.
FOR_EACH = 2
MOST = 2**16  # copies in all; a number that would need more is not asked about
ALARMS, WITHIN = 1e-9, 400  # of a right subject in a run of so many problems, the full profile


@dataclass(frozen=True, eq=False)
class KnownNumber:
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
class DrawnQuestion:
    """What a subject is asked, and what of its answer is looked at.

    Attributes:
        problem: with every sample many times over, under ``Sampled(FOR_EACH)``.
        blocks: {layer: its blocks}, of what layers see under the exact Fisher.
        forms: of all blocks and ways.
        draws: n, how many are counted on.
        surprise: S, that of a number for which the subject is accused (``drawn_labels.py``).
    """

    problem: Problem
    blocks: dict[str, list[Block]]
    forms: Sequence[KnownNumber]
    draws: int
    surprise: float


@dataclass(frozen=True, eq=False)
class OwnDraws:
    """The answers of a subject that draws, asked for when they are needed and only once.

    Attributes:
        ask: a problem of the subject, which has {way: its answer}.
        definition: the subject's.
        ways: in which it is asked.
        problem: that of the trial.
    """

    ask: Callable[[Problem], dict[str, Answer]]
    definition: Definition
    ways: Sequence[str]
    problem: Problem

    @cached_property
    def question(self) -> DrawnQuestion | None:
        """None where chance tells nothing: of no answer, of too many labels, or too rare ones."""
        return question_of(self.definition, self.ways, self.problem) if self.ways else None

    @cached_property
    def answers(self) -> list[Answered]:
        """Of that question, block by block and way by way."""
        if self.question is None:
            return []
        return [
            one
            for way, answer in self.ask(self.question.problem).items()
            for name, blocks in self.question.blocks.items()
            for one in answered_blocks(way, name, answer[name], blocks)
        ]

    def once(self) -> dict[str, Answer]:
        """{way: the answer by a single draw of every label}: of no use but for what it changes."""
        return self.ask(replace(self.problem, fisher=Sampled()))


def check_not_drawn(subject: Subject, problem: Problem) -> None:
    """Raise a ProblemError where a subject would be held to labels that it does not draw itself.

    Which labels ``Sampled`` draws is our own business: nobody else has the same, and even ours are
    others in another order.
    """
    held = [way for way in subject.ways if way not in (*SAMPLED, "optimizer")]
    if held and isinstance(problem.fisher, Sampled):
        raise ProblemError(
            "problem.fisher: Sampled() draws its labels, every implementation others, so there is "
            f"no right answer to hold {', '.join(held)} to; ask with fisher=Exact() or Empirical()."
            f" How a subject draws is judged by {', '.join(SAMPLED)}, which are asked with Exact()."
        )


def question_of(
    definition: Definition, ways: Sequence[str], problem: Problem
) -> DrawnQuestion | None:
    """None where nothing of the answer could be judged: labels are too many, or too rare."""
    labels = labels_of(problem) if problem.dtype != torch.bfloat16 else None
    if labels is None:
        return None
    exact, outputs = replace(problem, fisher=Exact()), _of_outputs(problem)
    blocks = definition.blocks(exact, observed(exact))
    jacobians = definition.blocks(outputs, observed_exactly(outputs))
    drafts = [
        (way, title, *numbers)
        for layer, of_layer in blocks.items()
        for title, block, J in zip(titles(layer, of_layer), of_layer, jacobians[layer], strict=True)
        for way in ways
        for numbers in _numbers(way, block, J)
    ]
    surprise = log(2 * len(drafts) * WITHIN / ALARMS)
    forms, n = [], 0.0
    for way, title, name, W, rows, rounding in drafts:
        M = [torch.einsum("krp,pq,lrq->kl", J, W, J) for J in rows]
        slack = rounding * float(torch.linalg.matrix_norm(W.abs(), 2))
        form = KnownNumber(way, title, name, W, Concentration.of(labels, M), slack)
        needed = form.labels.needed(surprise, slack)
        if needed <= MOST:
            forms.append(form)
            n = max(n, needed)
    if not forms:
        return None
    times = ceil(n / len(labels))
    many = [tree_map(lambda v: torch.cat([v] * times), tuple(pair)) for pair in problem.batches]
    asked = replace(problem, fisher=Sampled(FOR_EACH), batches=many)
    longer = {
        layer: [
            replace(one, seen=replace(one.seen, blur=float(times * FOR_EACH))) for one in of_layer
        ]
        for layer, of_layer in blocks.items()
    }
    return DrawnQuestion(asked, longer, forms, times * len(labels), surprise)


_Number = tuple[str, Tensor, list[Tensor], float]  # name, W, J [K, rows, P], rounding for |W| = 1


def _numbers(way: str, block: Block, outputs: Block) -> Iterator[_Number]:
    """What is known of a block, by the Jacobians of all outputs."""
    seen, (d_out, d_in) = block.seen, block.seen.shape
    rounding = torch.finfo(seen.dtype).eps * (FOR_EACH * MOST + LIMIT * length(seen))
    if way == "sampled_kfac":
        rows = [g if isinstance(seen.sharing, Expand) else g.sum(1, True) for g in outputs.seen.g]
        rounding *= factor_scales(seen)[0]
        yield "tr B", torch.eye(d_out).double(), rows, rounding
        yield "w^T B w", _direction(d_out, 1), rows, rounding
        return
    rows, rounding = [G.flatten(1)[:, None] for G in outputs.seen.G], rounding * fisher_scale(seen)
    yield "tr F", torch.eye(d_out * d_in).double(), rows, rounding
    if way == "sampled_ekfac":  # I (x) A is diagonal in the basis of E, whichever labels B has
        A = oracle.factors(seen)[1]
        yield "tr F (I (x) A)", torch.kron(torch.eye(d_out).double(), A), rows, rounding
        return
    for seed in (1, 2):
        yield "v^T F v", _direction(d_out * d_in, seed), rows, rounding


def _direction(size: int, seed: int) -> Tensor:
    """v v^T for a v of length 1 at random."""
    v = torch.randn(size, generator=torch.Generator().manual_seed(seed)).double()
    return torch.outer(v, v) / v.square().sum()


def _of_outputs(problem: Problem) -> Problem:
    """One whose columns are the outputs themselves, so that a G is a row of the Jacobian."""
    exact = in_dtype(problem, torch.float64)
    with undisturbed(exact.batches):
        batches = [(x, torch.zeros_like(call(exact.model, x))) for x, _ in exact.batches]
    return replace(exact, batches=batches, likelihood=Gaussian(), fisher=Exact())


@contextmanager
def seeded() -> Iterator[None]:
    """All global generators at one seed, so that a question has one answer; then as they were."""
    with untouched():
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        yield


def output_factor(K: Tensor, A: Tensor) -> Tensor:
    """The B of K = B (x) A, as near as there is one: <K, (. (x) A)> / |A|^2; 0 where A is."""
    d_in = len(A)
    d_out, size = len(K) // d_in, A.square().sum()
    B = torch.einsum("oipj,ij->op", K.reshape(d_out, d_in, d_out, d_in), A)
    return B / size if float(size) > 0 else B
