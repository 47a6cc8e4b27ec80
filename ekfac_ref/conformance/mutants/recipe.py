"""A correct EKFAC in the steps that mistakes are made in; a mutant replaces one of them.

All in float64, from what each layer saw (``observation.py``), by the oracle's own definitions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ekfac_ref.conformance.mutants.eigenpairs import eigenvectors
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.placed import put_together
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed_exactly
from ekfac_ref.conformance.truth.observation import Observation, Observations
from ekfac_ref.matrix.operators import Dense, EigenKronecker
from ekfac_ref.question.problem import Problem

Factor = Callable[[Observation], Tensor]
Basis = Callable[[Tensor], Tensor]
Eigenvalues = Callable[[Observation, Tensor, Tensor], Tensor]
Product = Callable[[EigenKronecker, Tensor], Tensor]
Solution = Callable[[EigenKronecker, Tensor, float], Tensor]


def ends_in_ones(seen: Observation) -> bool:
    """Whether the last input is the homogeneous 1 of a bias, as far as inputs tell."""
    return all(bool((a[:, -1] == 1).all()) for a in seen.a)


def part(seen: Observation, samples: list[int]) -> Observation:
    """What the layer saw of some of the samples, which are given by their numbers."""
    chosen: dict[str, Any] = {
        name: [of[n] for n in samples] for name, of in vars(seen).items() if isinstance(of, list)
    }
    return replace(seen, **chosen)


def by_batch(seen: Observation) -> list[Observation]:
    """What the layer saw of every batch, in their order."""
    return [
        part(seen, [n for n, number in enumerate(seen.batch) if number == batch])
        for batch in sorted(set(seen.batch))
    ]


@dataclass(frozen=True, eq=False)
class Rounded:
    """A block as it is handed over: it takes and gives tensors of the dtype of the algebra.

    Attributes:
        shape: (d_out, d_in), that of the V it acts on.
        matvec: V to M V, in float64 and then rounded.
        solve: (V, damping=) to (M + damping I)^-1 V, in float64 and then rounded.
    """

    shape: tuple[int, int]
    matvec: Callable[[Tensor], Tensor]
    solve: Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class RoundedEigen(Rounded):
    """A block that shows its eigenvectors and eigenvalues too, those of E in another dtype."""

    E: EigenKronecker
    dtype: torch.dtype

    @property
    def Q_B(self) -> Tensor:
        """Eigenvectors of B as columns, [d_out, r_out]."""
        return self.E.Q_B.to(self.dtype)

    @property
    def Q_A(self) -> Tensor:
        """Eigenvectors of A as columns, [d_in, r_in]."""
        return self.E.Q_A.to(self.dtype)

    @property
    def eigenvalues(self) -> Tensor:
        """Lambda, [r_out, r_in], in the units of E: the 1/N is in it."""
        return self.E.eigenvalues.to(self.dtype)


def rounded(M: Dense, dtype: torch.dtype) -> Rounded:
    """A float64 matrix as it is handed over."""
    return Rounded(
        M.shape,
        lambda V: M.matvec(V.double()).to(dtype),
        lambda V, *, damping: M.solve(V.double(), damping=damping).to(dtype),
    )


@dataclass(frozen=True)
class Recipe:
    """One step after the other, as they come in ``ekfac``.

    Attributes:
        observe: what every layer (and group) sees of the problem.
        definition: which blocks a layer has.
        A, B: the factors of one layer, [d_in, d_in] and [d_out, d_out], under its sharing.
        output_basis, input_basis: eigenvectors of each factor, as columns.
        eigenvalues: Lambda, [d_out, d_in], in the basis (Q_B, Q_A).
        assemble: (Q_B, Q_A, Lambda) to E, an operator on [d_out, d_in].
        product: (E, V) to E V.
        solution: (E, V, damping) to (E + damping I)^-1 V.
        hand_over: what a caller gets of a block, which is given in the dtype of the algebra.
    """

    observe: Callable[[Problem], Observations] = observed_exactly
    definition: Definition = field(default_factory=Definition)
    A: Factor = lambda seen: oracle.factors(seen)[1]
    B: Factor = lambda seen: oracle.factors(seen)[0]
    output_basis: Basis = eigenvectors
    input_basis: Basis = eigenvectors
    eigenvalues: Eigenvalues = oracle.eigenvalues
    assemble: Callable[[Tensor, Tensor, Tensor], EigenKronecker] = EigenKronecker
    product: Product = EigenKronecker.matvec
    solution: Solution = lambda E, V, damping: E.solve(V, damping=damping)
    hand_over: Callable[[RoundedEigen], Rounded] = lambda right: right

    def ekfac(self, problem: Problem) -> Mapping[str, Any]:
        """{layer: operator}, one of several blocks for a layer with groups."""
        return answer(problem, self.observe(problem), self.definition, self.block)

    def kfac(self, problem: Problem) -> Mapping[str, Any]:
        """The KFAC of the factors on the way to E: B (x) A."""
        return self._matrices(problem, lambda seen: torch.kron(self.B(seen), self.A(seen)))

    def exact_fisher(self, problem: Problem) -> Mapping[str, Any]:
        """The exact blocks of what the layers see."""
        return self._matrices(problem, oracle.fisher)

    def sample_gradients(self, problem: Problem) -> dict[str, Tensor]:
        """{layer: [N, C, d_out, d_in]} of what the layers see, 0 where a sample has no column."""
        G = oracle.gradients_of_layers(self.definition.seen(problem, self.observe(problem)))
        return {name: pad_sequence(of_layer, batch_first=True) for name, of_layer in G.items()}

    def _matrices(
        self, problem: Problem, matrix: Callable[[Observation], Tensor]
    ) -> Mapping[str, Any]:
        def block(seen: Observation) -> Rounded:
            return rounded(Dense(matrix(seen), seen.shape), seen.algebra)

        return answer(problem, self.observe(problem), self.definition, block)

    def block(self, seen: Observation) -> Rounded:
        """The operator of one group."""
        Q_B, Q_A = self.output_basis(self.B(seen)), self.input_basis(self.A(seen))
        E, dtype = self.assemble(Q_B, Q_A, self.eigenvalues(seen, Q_B, Q_A)), seen.algebra
        right = RoundedEigen(
            E.shape,
            lambda V: self.product(E, V.double()).to(dtype),
            lambda V, *, damping: self.solution(E, V.double(), damping).to(dtype),
            E,
            dtype,
        )
        return self.hand_over(right)


def answer(
    problem: Problem,
    observed: Observations,
    definition: Definition,
    block: Callable[[Observation], Any],
) -> dict[str, Any]:
    """{layer: operator}, put together from the operators of the blocks that a definition makes."""
    return {
        name: put_together([block(one.seen) for one in blocks], blocks)
        for name, blocks in definition.blocks(problem, observed).items()
    }


CORRECT = Recipe()


@dataclass(frozen=True)
class Around:
    """Right answers, with something wrong around every way to ask for them.

    Attributes:
        wrap: a way to ask to a wrong one.
    """

    wrap: Callable[[Ask], Ask]

    def ekfac(self, problem: Problem) -> Mapping[str, Any]:
        """The right EKFAC, asked for in the wrong way."""
        return self.wrap(CORRECT.ekfac)(problem)

    def kfac(self, problem: Problem) -> Mapping[str, Any]:
        """The right KFAC, asked for in the wrong way."""
        return self.wrap(CORRECT.kfac)(problem)

    def exact_fisher(self, problem: Problem) -> Mapping[str, Any]:
        """The right exact blocks, asked for in the wrong way."""
        return self.wrap(CORRECT.exact_fisher)(problem)

    def sample_gradients(self, problem: Problem) -> Mapping[str, Tensor]:
        """The right gradients, asked for in the wrong way."""
        return self.wrap(CORRECT.sample_gradients)(problem)


def with_observations(change: Callable[[Observation], Observation]) -> Ask:
    """An EKFAC that is right but for what its layers are taken to have seen."""

    def observe(problem: Problem) -> Observations:
        right = observed_exactly(problem)
        return {name: [change(seen) for seen in groups] for name, groups in right.items()}

    return replace(CORRECT, observe=observe).ekfac


def with_lambda_of(change: Callable[[Observation], Observation]) -> Ask:
    """An EKFAC that is right but for what Lambda is measured from."""
    return with_eigenvalues(lambda seen, Q_B, Q_A: oracle.eigenvalues(change(seen), Q_B, Q_A))


def with_eigenvalues(eigenvalues: Eigenvalues) -> Ask:
    """An EKFAC that is right but for Lambda."""
    return replace(CORRECT, eigenvalues=eigenvalues).ekfac


def with_bases(basis: Basis) -> Ask:
    """An EKFAC that is right but for how it gets the eigenvectors of either factor."""
    return replace(CORRECT, output_basis=basis, input_basis=basis).ekfac
