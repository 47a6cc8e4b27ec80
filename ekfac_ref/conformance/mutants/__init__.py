"""The catalogue: implementations of EKFAC with one mistake each."""

from ekfac_ref.conformance.mutants.assembly import ASSEMBLY
from ekfac_ref.conformance.mutants.basis import BASIS
from ekfac_ref.conformance.mutants.eigenvalues import EIGENVALUES
from ekfac_ref.conformance.mutants.geometry import GEOMETRY
from ekfac_ref.conformance.mutants.labels import LABELS
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.samples import SAMPLES
from ekfac_ref.conformance.mutants.scale import SCALE

# Those that are made inside one layer, from what it saw.
_LAYER = (*EIGENVALUES, *SCALE, *BASIS, *ASSEMBLY)
# Those that are made before: which samples, labels and positions a layer sees.
_PROBLEM = (*SAMPLES, *LABELS, *GEOMETRY)

CATALOGUE: tuple[Mutant, ...] = (*_LAYER, *_PROBLEM)
