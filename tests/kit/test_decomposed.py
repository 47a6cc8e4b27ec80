"""Eigenpairs that are looked up are those that would be computed, and nobody else's to write to."""

from contextlib import suppress

import pytest
import torch

from ekfac_ref.conformance.mutants.eigenpairs import eigenvectors, turned
from ekfac_ref.conformance.truth.decomposed import decomposed
from ekfac_ref.matrix.eigen import eigh


def test_they_are_of_the_matrix_as_it_is_now() -> None:
    half = torch.randn(3, 3).double()
    matrix = half @ half.T
    for _ in range(2):
        assert all(map(torch.equal, decomposed(matrix), eigh(matrix)))
        matrix *= 2


def test_what_is_written_to_them_is_not_remembered() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0])).double()
    for found in decomposed(matrix):
        found.zero_()
    assert all(map(torch.equal, decomposed(matrix), eigh(matrix)))


def test_equal_bits_of_another_shape_or_dtype_are_another_matrix() -> None:
    zeros = torch.zeros(4, 4).double()
    assert decomposed(zeros)[1].dtype == torch.float64
    assert decomposed(zeros.to(torch.complex64))[1].dtype == torch.complex64
    with pytest.raises(RuntimeError, match="square"):
        decomposed(zeros.reshape(2, 8))


def test_eigenvectors_are_turned_within_alone_however_that_ends() -> None:
    matrix = torch.diag(torch.tensor([1.0, 2.0])).double()
    Q = eigh(matrix)[1]
    with suppress(ZeroDivisionError), turned({2: ([1, 0], [1.0, -1.0])}):
        assert torch.equal(eigenvectors(matrix), Q[:, [1, 0]] * torch.tensor([1, -1]))
        raise ZeroDivisionError
    assert torch.equal(eigenvectors(matrix), Q)
