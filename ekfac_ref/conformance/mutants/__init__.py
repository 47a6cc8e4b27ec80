"""The catalogue: implementations of EKFAC with one mistake each."""

from ekfac_ref.conformance.mutants.eigenvalues import EIGENVALUES
from ekfac_ref.conformance.mutants.mutant import Mutant

CATALOGUE: tuple[Mutant, ...] = (*EIGENVALUES,)
