r"""Laws of a matrix, E where nothing else is said, held against what the layer saw.

A matvec is enough to ask them. F, A and B are the oracle's. A formula stands in its docstring's
first line; the proofs are in docs/laws.md.
"""

import torch

from ekfac_ref.conformance.laws.law import ALGEBRA, GEORGE, Lane, law_of_a_block
from ekfac_ref.conformance.subjects.answered import Answered
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.tolerance import (
    block_scale,
    bounded,
    factor_scales,
    fisher_scale,
    length,
    own_scale,
)
from ekfac_ref.matrix.eigen import eigh

_SQUARES = "F is a sum of v v^T"


@law_of_a_block("symmetry", _SQUARES, Lane.OPAQUE)
def symmetry(block: Answered) -> float:
    """M = M^T

    It holds for every block, F, KFAC's or EKFAC's.
    """
    M, seen = block.matrix, block.seen
    return bounded("M = M^T", M - M.T, own_scale(M, block_scale(seen)), seen)


@law_of_a_block("psd", _SQUARES, Lane.OPAQUE)
def positive_semidefinite(block: Answered) -> float:
    """v^T M v >= 0

    No eigenvalue of (M + M^T) / 2 is below zero by more than rounding.
    """
    M, seen = block.matrix, block.seen
    negative = eigh((M + M.T) / 2)[0].clamp(max=0)
    return bounded("M >= 0", negative, own_scale(M, block_scale(seen)), seen)


@law_of_a_block("trace", GEORGE, Lane.EKFAC)
def trace(block: Answered) -> float:
    """tr E = tr F = (1/N) sum_nc |G_nc|^2"""
    M, seen = block.matrix, block.seen
    expected = sum(float((G**2).sum()) for G in seen.G) / len(seen.G)
    return bounded("tr E = tr F", M.trace() - expected, fisher_scale(seen), seen)


@law_of_a_block("commutes", ALGEBRA, Lane.EKFAC)
def commutes(block: Answered) -> float:
    """E (B (x) I) = (B (x) I) E and E (I (x) A) = (I (x) A) E

    No eigenvector is needed to ask, and repeated eigenvalues do not matter.
    """
    M, seen = block.matrix, block.seen
    B, A = oracle.factors(seen)
    b, a = factor_scales(seen)
    left = torch.kron(B, torch.eye(len(A)).double())
    right = torch.kron(torch.eye(len(B)).double(), A)
    scale = own_scale(M, fisher_scale(seen))
    return max(
        bounded("[E, B (x) I] = 0", M @ left - left @ M, scale * b, seen),
        bounded("[E, I (x) A] = 0", M @ right - right @ M, scale * a, seen),
    )


@law_of_a_block("moments", ALGEBRA, Lane.EKFAC)
def moments(block: Answered) -> float:
    """tr E (B^p (x) A^q) = tr F (B^p (x) A^q), p and q up to 2

    p = q = 0 is the trace.
    """
    M, seen = block.matrix, block.seen
    difference = M - oracle.fisher(seen)
    B, A = oracle.factors(seen)
    b, a = factor_scales(seen)
    ratios = []
    for p in range(3):
        for q in range(3):
            weight = torch.kron(torch.matrix_power(B, p), torch.matrix_power(A, q))
            scale = fisher_scale(seen) * b**p * a**q
            ratios.append(bounded("moments", (difference * weight).sum(), scale, seen))
    return max(ratios)


@law_of_a_block("self-projection", ALGEBRA, Lane.EKFAC)
def self_projection(block: Answered) -> float:
    """tr E F = |E|^2

    E is the orthogonal projection of F onto the matrices that are diagonal in some basis.
    """
    M, seen = block.matrix, block.seen
    residual = (M * oracle.fisher(seen)).sum() - (M**2).sum()
    return bounded("tr E F = |E|^2", residual, fisher_scale(seen) ** 2, seen)


@law_of_a_block("majorisation", "Schur 1923", Lane.EKFAC)
def majorisation(block: Answered) -> float:
    """the k largest eigenvalues of E sum to at most those of F, for every k"""
    M, seen = block.matrix, block.seen
    spectra = [eigh(X)[0] for X in ((M + M.T) / 2, oracle.fisher(seen))]
    sums = [spectrum.flip(0).cumsum(0) for spectrum in spectra]
    excess = (sums[0] - sums[1]).clamp(min=0).amax()
    summands = length(seen) + len(spectra[0])
    return bounded("spec E < spec F", excess, fisher_scale(seen), seen, summands)
