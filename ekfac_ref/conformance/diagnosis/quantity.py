"""What of a subject is compared: its E, K and F, their inverses, its tensors and its products."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Factored, OnKFAC, Tikhonov
from ekfac_ref.conformance.subjects.answered import Answered, Case
from ekfac_ref.conformance.subjects.definition import Block
from ekfac_ref.conformance.subjects.matrices import entries
from ekfac_ref.conformance.subjects.preconditioned import (
    WRITTEN_OUT,
    Vectors,
    at_random,
    inverted_ekfac,
    middle_damping,
)
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation

Blocks = dict[str, list[Block]]


@dataclass(frozen=True)
class Quantity:
    """One matrix of every block.

    Attributes:
        way: how a subject is asked for it.
        name: what it is called in a sentence.
        correct: the right ones of all blocks, mostly [P, P], empty where there is none.
        given: what a subject on trial has for the blocks of these numbers.
        has_a_basis: whether it depends on eigenvectors, which have to be determined then.
        of_a_mutant: how a mutant is asked for it.
        inverted: how what the subject inverts is damped, where it is an inverse.
        largest: so many parameters the largest layer may have, for it takes as many questions.
    """

    way: str
    name: str
    correct: Callable[[Blocks], list[Tensor]]
    given: Callable[[Trial, Sequence[int]], list[Tensor]]
    has_a_basis: bool = False
    of_a_mutant: str = ""
    inverted: Damping | None = None
    largest: float = inf


def _each(matrix: Callable[[Observation], Tensor]) -> Callable[[Blocks], list[Tensor]]:
    return lambda blocks: [matrix(block.seen) for several in blocks.values() for block in several]


def _shown(trial: Trial, rows: Sequence[int]) -> list[Tensor]:
    return [trial.cases[i].operators[0].matrix for i in rows]


def _diagonals(trial: Trial, rows: Sequence[int]) -> list[Tensor]:
    """As matrices, of a subject's diagonal or a mutant's block."""
    return [_diagonal(trial.cases[i]) for i in rows]


def _diagonal(case: Case) -> Tensor:
    if case.diagonal is not None:
        return case.diagonal.reshape(-1).diag()
    return case.operators[0].matrix.diagonal().diag()


def _columns(product: Callable[[Vectors], Vectors], blocks: Blocks) -> list[Tensor]:
    """[P, layers] of every block: its rows of F V, for V that is zero but for one layer."""
    V = at_random(blocks, seed=3)
    alone = [{n: X if n == j else torch.zeros_like(X) for n, X in V.items()} for j in V]
    answers = [product(one) for one in alone]
    return [
        torch.stack([block.of(answer[name]).reshape(-1) for answer in answers], 1)
        for name, several in blocks.items()
        for block in several
    ]


def _right_columns(blocks: Blocks) -> list[Tensor]:
    seen = {name: [block.seen for block in several] for name, several in blocks.items()}
    return _columns(partial(oracle.product_with_all, seen), blocks)


def _products(trial: Trial, rows: Sequence[int]) -> list[Tensor]:
    columns = _columns(trial.fisher_product, trial.blocks)
    return [columns[i] for i in rows]


def _by_factors(blocks: Blocks) -> list[Tensor]:
    """(B + sqrt(d) / pi I) (x) (A + sqrt(d) pi I) - d I; none without a pi."""
    d = middle_damping(blocks)

    def damped(seen: Observation) -> Tensor:
        if (parts := oracle.parts_of_damping(seen, d)) is None:
            return torch.zeros(0)
        pairs = zip(oracle.factors(seen), parts, strict=True)
        B, A = (factor + part * torch.eye(len(factor)).double() for factor, part in pairs)
        return torch.kron(B, A) - d * torch.eye(len(B) * len(A)).double()

    return _each(damped)(blocks)


def _inverses(trial: Trial, rows: Sequence[int]) -> list[Tensor]:
    """P^-1 - d I, of a preconditioner's P or that of the solve of an operator."""
    d = middle_damping(trial.blocks)
    blocks = [(block.seen, P) for block, P in _inverting(trial, d, rows)]
    found = [inverted_ekfac(P, seen, d) for seen, P in blocks]
    return [torch.zeros(0) if M is None else M.matrix for M in found]


def _inverting(trial: Trial, d: float, rows: Sequence[int]) -> Iterator[tuple[Block, Tensor]]:
    several = [(name, block) for name, of in trial.blocks.items() for block in of]
    for i in rows:
        name, block = several[i]
        if trial.inverse is None:
            yield block, _solved(trial.cases[i].operators[0], d)
        elif trial.inverse.matrices is not None:
            layer = trial.blocks[name]
            of = entries(layer)[layer.index(block)]
            yield block, trial.inverse.matrices[name][of][:, of]


def _solved(M: Answered, d: float) -> Tensor:
    units = torch.eye(len(M.matrix), dtype=M.seen.algebra).reshape(-1, *M.shape)
    return torch.stack([M.own.solve(V.clone(), damping=d).double().reshape(-1) for V in units], 1)


OF_EKFAC = Quantity("ekfac", "EKFAC", _each(oracle.ekfac_matrix), _shown, has_a_basis=True)
OF_KFAC = Quantity("kfac", "KFAC", _each(lambda seen: torch.kron(*oracle.factors(seen))), _shown)
OF_EXACT = Quantity("exact_fisher", "exact block", _each(oracle.fisher), _shown)
OF_DIAGONAL = Quantity(
    "diagonal",
    "diagonal",
    _each(lambda seen: oracle.fisher(seen).diagonal().diag()),
    _diagonals,
    of_a_mutant="exact_fisher",
)
OF_GRADIENTS = replace(OF_DIAGONAL, way="per_sample_gradients", name="sum of squared gradients")
OF_NETWORK = Quantity(
    "fisher_product",
    "product with the Fisher of all layers",
    _right_columns,
    _products,
    of_a_mutant="fisher_product",
)


# What is inverted, by how it is damped.
INVERTED: dict[type[Damping], Callable[[Blocks], list[Tensor]]] = {
    Tikhonov: OF_EKFAC.correct,
    OnKFAC: OF_KFAC.correct,
    Factored: _by_factors,
}


def compared_of(subject: Subject, solving: Sequence[str]) -> tuple[Quantity, ...]:
    """What of the subject is compared; ``solving`` says which of its operators have a solve."""
    found = [one for one in (OF_EKFAC, OF_KFAC, OF_EXACT) if one.way in subject.operators]
    names = {one.way: one.name for one in found}
    if not found:
        found = [one for one in (OF_DIAGONAL, OF_GRADIENTS) if one.way in subject.tensors]
    how = subject.definition.damping
    found += [_inverse(way, way, f"{names[way]}'s solve", how) for way in names if way in solving]
    if subject.precondition is not None:
        of = next(iter(names), "ekfac" if isinstance(how, Tikhonov) else "kfac")
        found.append(_inverse("precondition", of, "preconditioner", how))
    return (*found, OF_NETWORK) if subject.fisher_product is not None else tuple(found)


def _inverse(way: str, of: str, name: str, how: Damping) -> Quantity:
    """The inverse of E, K or F as a subject asked in this way has it."""
    if of != "kfac" or isinstance(how, Tikhonov):
        how = OnKFAC() if of == "kfac" else Tikhonov()
    return Quantity(
        way,
        name,
        OF_EXACT.correct if of == "exact_fisher" else INVERTED[type(how)],
        _inverses,
        has_a_basis=of == "ekfac",
        of_a_mutant="exact_fisher" if of == "exact_fisher" else "ekfac",
        inverted=how,
        largest=WRITTEN_OUT if way == "precondition" else inf,
    )
