"""A subject's answers to one problem, in the form that laws are asked of."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.training import Hyperparameters
from ekfac_ref.conformance.problems.changed import copied
from ekfac_ref.conformance.problems.designed.batching import held
from ekfac_ref.conformance.subjects.answered import Case
from ekfac_ref.conformance.subjects.cases import of_diagonals, of_inverses, of_operators
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.drawn import OwnDraws, seeded
from ekfac_ref.conformance.subjects.matrices import (
    BadAnswer,
    as_expected,
    checked,
    extent,
    real,
)
from ekfac_ref.conformance.subjects.preconditioned import (
    Preconditioned,
    Solved,
    Vectors,
    at_random,
)
from ekfac_ref.conformance.subjects.snapshot import own_states, watched
from ekfac_ref.conformance.subjects.subject import Answer, Ask, Subject
from ekfac_ref.conformance.subjects.trained import trained
from ekfac_ref.conformance.training.steps import Trained, training_problem
from ekfac_ref.conformance.truth.cache import observed, observed_exactly
from ekfac_ref.conformance.truth.observation import Observations
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.question.batches import read
from ekfac_ref.question.columns import Empirical
from ekfac_ref.question.problem import Problem

DAMPINGS = (1e-6, 1.0)  # at 1 a damping that is squared, or its root, looks right


class Trial:
    """One subject, one problem, and the answers, asked for when they are needed and only once.

    ``changes`` has a line for everything that the subject changed while it answered, or failed to.

    Args:
        subject: on trial.
        problem: the question; the subject gets copies of it.
        seen: ``Trial.seen`` where it is known; else the problem is observed.
        watch: whether to look for changes, which can take longer than the answer.
        own: whether each question has random states of its own, or the caller sees to that.
    """

    def __init__(
        self,
        subject: Subject,
        problem: Problem,
        seen: Observations | None = None,
        watch: bool = True,
        own: bool = True,
    ) -> None:
        self.subject, self.problem, self._seen, self._watch = subject, problem, seen, watch
        self._own, self.changes = own, list[str]()
        self._trained: dict[tuple[int, Hyperparameters], Trained] = {}

    def about(self, problem: Problem) -> "Trial":
        """A trial of this subject on a changed problem, which has the same layers.

        What those saw of it is taken to be what they saw of this one: no law between two answers
        asks for more than the shapes, and looking takes longer than most subjects do. Changes are
        this one's alone to tell.
        """
        return Trial(self.subject, problem, self.seen, watch=False)

    @cached_property
    def seen(self) -> Observations:
        """{layer: one Observation per group}, by the layers of the subject's definition."""
        return self._seen or self.subject.definition.seen(self.problem, observed(self.problem))

    @cached_property
    def blocks(self) -> dict[str, list[Block]]:
        """{layer: its blocks}, as the subject's definition has them."""
        return self.subject.definition.blocks(self.problem, self.seen)

    @cached_property
    def cases(self) -> list[Case]:
        """Every block of every layer."""
        damping = self.subject.definition.damping
        if self.inverse is not None:
            return of_inverses(self.blocks, self.inverse, damping)
        if not self.subject.operators:
            return of_diagonals(self.blocks, self.diagonals)
        asked = {way: self.asked(ask, way) for way, ask in self.subject.operators.items()}
        return of_operators(self.blocks, asked, damping)

    @cached_property
    def drawn(self) -> OwnDraws:
        """Answers with labels that the subject draws for itself."""
        return OwnDraws(self._draw, self.subject.definition, [*self.subject.sampled], self.problem)

    def _draw(self, problem: Problem) -> dict[str, Answer]:
        """{way: its answer}. A generator that it draws from is moved by that, and nothing else."""
        later = Trial(self.subject, problem, self.seen)
        found = {way: later.asked(seeded()(ask), way) for way, ask in self.subject.sampled.items()}
        self.changes += later.changes
        return found

    @cached_property
    def inverse(self) -> Preconditioned | None:
        """What a preconditioner makes of vectors, where the subject shows no matrix beside it."""
        if self.subject.precondition is None or self.subject.operators:
            return None
        labelled, by = replace(self.problem, fisher=Empirical()), self.subject.definition
        return Preconditioned(
            self.solved, self.blocks, lambda: by.seen(labelled, observed_exactly(labelled))
        )

    @cached_property
    def sample_gradients(self) -> Vectors:
        """{layer: the G_nc, [N, C, d_out, d_in]} in float64; with nothing in it if there are none.

        N is as it should be, C as the subject has it.
        """
        ask = self.subject.tensors.get("per_sample_gradients")
        answer = {} if ask is None else self.asked(ask, "per_sample_gradients")
        found = {}
        for name, G in answer.items():
            d_out, d_in = extent(self.blocks[name])
            N = sum(batch.size for batch in read(self.problem))
            C = G.shape[1] if isinstance(G, Tensor) and G.dim() == 4 else "C"
            if isinstance(G, Tensor) and tuple(G.shape) != (N, C, d_out, d_in):
                raise BadAnswer(
                    f"layer {name!r}: per_sample_gradients returned shape {list(G.shape)}, "
                    f"expected [N, C, d_out, d_in] = [{N}, C, {d_out}, {d_in}]"
                )
            found[name] = real(name, "per_sample_gradients", G).double()
        return found

    @cached_property
    def diagonals(self) -> Vectors:
        """{layer: the diagonal of F} in float64, of per-sample gradients where that is all."""
        ask = self.subject.tensors.get("diagonal")
        if ask is None:
            return {name: (G**2).sum(1).mean(0) for name, G in self.sample_gradients.items()}
        answer = self.asked(ask, "diagonal")
        return {
            name: checked(name, "diagonal", D, "for a layer of", extent(self.blocks[name])).double()
            for name, D in answer.items()
        }

    def fisher_product(self, V: Vectors) -> Vectors:
        """What the subject has for F V of all layers together, checked."""
        product = self.subject.fisher_product
        assert product is not None
        return self._of_vectors(product, "fisher_product", self._as_given(V))

    def trained(self, steps: int, settings: Hyperparameters) -> Trained:
        """What the subject's optimizer does to the model; asked only once for these settings."""
        key = (steps, settings)
        if key not in self._trained:
            optimizer = self.subject.optimizer
            assert optimizer is not None
            question = training_problem(self.problem, steps)
            values, changes = trained(optimizer, copied(question), settings)
            self.changes += changes
            self._trained[key] = Trained(question, settings, values)
        return self._trained[key]

    @cached_property
    def preconditioned(self) -> dict[str, list[Solved]]:
        """{layer: what ``precondition`` says at DAMPINGS}, with nothing in it if there is none.

        The gradients are random numbers, of all layers at once.
        """
        if self.subject.precondition is None:
            return {}
        V = at_random(self.blocks, seed=3)
        twice = {damping: [self.solved(V, damping) for _ in range(2)] for damping in DAMPINGS}
        return {
            name: [
                Solved(damping, given.double(), x[name], again[name])
                for damping, (x, again) in twice.items()
            ]
            for name, given in self._as_given(V).items()
        }

    def solved(self, V: Vectors, damping: float) -> Vectors:
        """What ``precondition`` makes of V, checked."""
        precondition = self.subject.precondition
        assert precondition is not None
        return self._of_vectors(precondition, "precondition", self._as_given(V), damping)

    def _as_given(self, V: Vectors) -> Vectors:
        """V in the dtype of the algebra."""
        dtype = algebra_dtype(self.problem.dtype)
        return {name: x.to(dtype) for name, x in V.items()}

    def asked(self, ask: Ask, method: str) -> Answer:
        """An answer with the right layers in it, to a copy of the problem."""
        given = copied(self.problem)
        watching = watched(self.changes, method, given.model, held(given.batches))
        states = own_states() if self._own else nullcontext()
        with states, watching if self._watch else nullcontext():
            answer = ask(given)
        return as_expected(answer, method, self.seen, self.subject.definition)

    def _of_vectors(
        self, ask: Callable[..., Answer], way: str, vectors: Vectors, *more: Any
    ) -> Vectors:
        """{layer: what it makes of V}, checked, in float64; and whether it left V alone."""
        given = {name: V.clone() for name, V in vectors.items()}
        answer = self.asked(lambda problem: ask(problem, given, *more), way)
        for name, V in vectors.items():
            if name not in given or not torch.equal(given[name], V):
                self.changes.append(f"{way}, gradients of {name!r}: changed")
        asked = "for gradients of"
        return {
            name: checked(name, way, answer[name], asked, extent(blocks)).to(
                torch.float64, copy=True
            )
            for name, blocks in self.blocks.items()
        }
