"""Which part is wrong, where nothing known fits: A, B, their eigenvectors, Lambda, the damping.

E is looked at in the right basis, Q_B (x) Q_A, and in its own, which its partial traces have for
eigenvectors if E is an EKFAC at all. A part that is wrong on few blocks only may be rounding, or
a coincidence: it has to be so on one in _OFTEN of those that are wrong.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Factored, Tikhonov
from ekfac_ref.conformance.diagnosis.comparison import Comparison, relative, sine
from ekfac_ref.conformance.diagnosis.factor import NO_MISTAKE, Candidate, judged
from ekfac_ref.conformance.mutants.eigenpairs import eigenvectors
from ekfac_ref.conformance.subjects.definition import Definition
from ekfac_ref.conformance.subjects.preconditioned import middle_damping
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation

_OFTEN = 5


def wrong_part(subject: Subject, used: Sequence[Comparison]) -> str:
    """What can be said of the part that is wrong, in a sentence, or ""."""
    quantity = used[0].question.quantity
    differing = [c for c in used if c.is_wrong]
    if quantity.inverted is not None:
        return _of_an_inverse(differing)
    if quantity.way == "fisher_product":
        return _of_layers(differing)
    blocks = list(_blocks(differing))
    if quantity.way == "ekfac":
        if all(_shows_the_right_one(subject, c) for c in differing):
            return "The Q_B, Q_A and Lambda that it shows are right, and its products are not."
        return _of_E([_Seen(*block) for block in blocks])
    return _of_K(blocks) if quantity.way == "kfac" else ""


def _blocks(comparisons: Sequence[Comparison]) -> Iterator[tuple[Observation, Tensor, float]]:
    """(what it saw, the matrix, what counts as a difference) of every block that is wrong."""
    for c in comparisons:
        differs = c.question.precision.differs
        for seen, M, right in zip(c.question.compared, c.given, c.question.correct, strict=True):
            if relative(M, right) > differs:
                yield seen, M, differs


def _shows_the_right_one(subject: Subject, c: Comparison) -> bool:
    """Whether Q Lambda Q^T is right, of what the subject shows beside its products."""
    problem = c.question.problem
    cases = Trial(subject.offering(["ekfac"]), problem, c.question.seen, watch=False).cases
    for row, right in zip(c.question.rows, c.question.correct, strict=True):
        E = cases[row].E
        if E is None or not E.own.shows_its_basis:
            return False
        Q_B, Q_A, Lambda = E.own.basis()
        shown = _turned(Lambda.reshape(-1).diag(), Q_B.T, Q_A.T)
        if relative(shown, right) > c.question.precision.fits:
            return False
    return True


def _of_layers(subject: Sequence[Comparison]) -> str:
    """F V, of V in one layer: is it right in that layer?"""
    for c in subject:
        layers = [j for j, groups in enumerate(c.question.seen.values()) for _ in groups]
        for row, given, right in zip(c.question.rows, c.given, c.question.correct, strict=True):
            j = layers[row]
            if relative(given[:, j], right[:, j]) > c.question.precision.differs:
                return ""
    return "It is right within every layer, and wrong between layers."


def _of_an_inverse(subject: Sequence[Comparison]) -> str:
    """Is P right up to a factor, or but for what is added to the right matrix?"""
    dampings = [
        middle_damping(Definition().blocks(c.question.problem, c.question.seen)) for c in subject
    ]
    inverse, right = (
        [
            Comparison(c.question, [M + d * torch.eye(len(M)).double() for M in of(c)])
            for c, d in zip(subject, dampings, strict=True)
        ]
        for of in (lambda c: c.given, lambda c: c.question.correct)
    )
    found = judged(NO_MISTAKE, right, inverse)
    if found.agrees:
        p, q, r = found.exponents
        times = Candidate(NO_MISTAKE, 1 / found.constant, (-p, -q, -r), 0.0)
        return f"It is right up to a factor of the whole: times {times.factor}."
    if all(_is_damping(c) for c in subject):
        return "What it inverts is right, and the damping is not."
    return ""


def _is_damping(c: Comparison) -> bool:
    """Whether what is added to the right matrix is a sum of I, B (x) I and I (x) A, or of I."""
    how = c.question.quantity.inverted
    for seen, given, right in zip(c.question.compared, c.given, c.question.correct, strict=True):
        terms = [torch.eye(len(given)).double()]
        if not isinstance(how, Tikhonov):
            B, A = oracle.factors(seen)
            I_B, I_A = (torch.eye(len(M)).double() for M in (B, A))
            terms += [torch.kron(B, I_A), torch.kron(I_B, A)]
            right = torch.kron(B, A) if isinstance(how, Factored) else right
        columns = torch.stack([term.reshape(-1) for term in terms], 1)
        rest = (given - right).reshape(-1, 1)
        rest = rest - columns @ (torch.linalg.pinv(columns) @ rest)
        if rest.norm() > c.question.precision.fits * given.norm():
            return False
    return True


def _traced(M: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The partial traces, [d_out, d_out] over inputs and [d_in, d_in] over outputs."""
    square = M.reshape(*shape, *shape)
    return torch.einsum("oipi->op", square), torch.einsum("oioj->ij", square)


def _of_K(blocks: Sequence[tuple[Observation, Tensor, float]]) -> str:
    off = [
        [
            sine(*pair) > differs
            for pair in zip(_traced(K, seen.shape), oracle.factors(seen), strict=True)
        ]
        for seen, K, differs in blocks
    ]
    wrong = [name for i, name in enumerate("BA") if _OFTEN * sum(o[i] for o in off) > len(off)]
    if len(wrong) == 1:
        return f"Its {wrong[0]} is wrong, and the other factor right up to a factor."
    return "Both factors are wrong." if wrong else ""


class _Seen:
    """E of one block, in the right basis and in its own."""

    def __init__(self, seen: Observation, E: Tensor, differs: float) -> None:
        right = [eigenvectors(factor) for factor in oracle.factors(seen)]
        self.Lambda = oracle.eigenvalues(seen, *right)
        self.differs = differs * float(E.norm())
        R = _turned(E, *right).reshape(*seen.shape, *seen.shape)
        self.given = torch.einsum("oioi->oi", R)
        # What couples two eigenvectors of B, or of A.
        apart_B, apart_A = (1 - torch.eye(d).double() for d in seen.shape)
        self.off_B = self._is_off(R * apart_B[:, None, :, None])
        self.off_A = self._is_off(R * apart_A[None, :, None, :])
        own = [eigenvectors((M + M.T) / 2) for M in _traced(E, seen.shape)]
        R = _turned(E, *own)
        self.has_a_basis = not self._is_off(R - R.diagonal().diag())
        measured = oracle.eigenvalues(seen, *own).reshape(-1)
        self.is_measured = not self._is_off(R.diagonal() - measured)

    def _is_off(self, difference: Tensor) -> bool:
        return float(difference.norm()) > self.differs

    @property
    def is_scaled(self) -> bool:
        """Whether Lambda is right up to a factor."""
        return sine(self.given, self.Lambda) * float(self.given.norm()) <= self.differs

    @property
    def is_permuted(self) -> bool:
        """Whether it is, once both are sorted."""
        one, other = (x.reshape(-1).sort().values for x in (self.given, self.Lambda))
        return sine(one, other) * float(one.norm()) <= self.differs


def _turned(M: Tensor, Q_B: Tensor, Q_A: Tensor) -> Tensor:
    Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
    return Q.T @ M @ Q


def _of_E(blocks: Sequence[_Seen]) -> str:
    def often(*is_so: bool) -> bool:
        return _OFTEN * sum(is_so) > len(blocks)

    sides = ["B"] * often(*(block.off_B for block in blocks))
    sides += ["A"] * often(*(block.off_A for block in blocks))
    if not sides:
        if not often(*(not block.is_scaled for block in blocks)):
            return "The eigenvectors are right, and Lambda is up to a factor of every block."
        if not often(*(not block.is_permuted for block in blocks)):
            return "The eigenvectors are right, and Lambda is in another order."
        return "The eigenvectors are right, and Lambda is not."
    of = " and ".join(sides)
    if often(*(not block.has_a_basis for block in blocks)):
        return f"It has no orthonormal eigenvectors of the form b (x) a; wrong on the side of {of}."
    if often(*(not block.is_measured for block in blocks)):
        return f"The eigenvectors of {of} are wrong, and the gradients that Lambda is made of."
    return f"The eigenvectors of {of} are wrong, and Lambda is right for those that it has."
