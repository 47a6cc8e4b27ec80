"""Correct EKFACs that no comparison with one fixed answer would let through.

Eigenvectors are determined up to their signs and their order, and within a cluster of equal
eigenvalues not at all. Whatever a law says of these is a false alarm.
"""

from dataclasses import replace

import torch
from torch import Tensor

from ekfac_ref.conformance.mutants.basis.eigenvectors import signs_turned
from ekfac_ref.conformance.mutants.eigenpairs import eigenvectors
from ekfac_ref.conformance.mutants.recipe import CORRECT, Basis
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.examples import hooks, reference
from ekfac_ref.matrix.eigen import eigh
from studies.numerics import ordinary

# Eigenvalues this close are one, and any rotation within their cluster is as good as any other.
SAME = 4 * torch.finfo(torch.float64).eps


def other_order(factor: Tensor) -> Tensor:
    """The eigenvectors of a factor [d, d], as columns in a random order, always the same one."""
    Q = eigenvectors(factor)
    return Q[:, torch.randperm(Q.shape[1], generator=_generator())]


def rotated_clusters(factor: Tensor) -> Tensor:
    """Eigenvectors of a factor [d, d], every cluster of equal eigenvalues turned at random."""
    w, Q = eigh(factor)
    generator = _generator()
    first = 0
    parts = []
    for last in range(1, len(w) + 1):
        if last == len(w) or w[last] - w[first] > SAME * w.abs().amax():
            size = last - first
            R = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=Q.dtype))[0]
            parts.append(Q[:, first:last] @ R)
            first = last
    return torch.cat(parts, 1)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _with_basis(name: str, basis: Basis) -> Subject:
    recipe = replace(CORRECT, output_basis=basis, input_basis=basis)
    return Subject(name, recipe.ekfac)


definition = Subject("the definition", CORRECT.ekfac)
in_other_signs = _with_basis("other signs", signs_turned)
in_other_order = _with_basis("other order", other_order)
in_rotated_clusters = _with_basis("rotated clusters", rotated_clusters)


def correct_subjects() -> tuple[Subject, ...]:
    """These, those in ordinary arithmetic, the reference and the hooks: no law is broken by any."""
    others = (in_other_signs, in_other_order, in_rotated_clusters)
    return (reference, hooks, definition, *others, *ordinary.SUBJECTS)
