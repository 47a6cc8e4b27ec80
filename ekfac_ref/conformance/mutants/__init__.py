"""The catalogue: implementations with one mistake each, in EKFAC or in a matrix beside it."""

from collections.abc import Mapping
from types import MappingProxyType

from ekfac_ref.conformance.mutants.basis.by_batch import FACTORS_BY_BATCH
from ekfac_ref.conformance.mutants.basis.eigenvectors import EIGENVECTORS
from ekfac_ref.conformance.mutants.basis.factors import FACTORS
from ekfac_ref.conformance.mutants.basis.other_definitions import OTHER_DEFINITIONS
from ekfac_ref.conformance.mutants.beside.kfac_and_fisher import BLOCKS
from ekfac_ref.conformance.mutants.beside.side_effects import SIDE_EFFECTS
from ekfac_ref.conformance.mutants.beside.silence import SILENCE
from ekfac_ref.conformance.mutants.columns.labels import LABELS
from ekfac_ref.conformance.mutants.columns.likelihoods import LIKELIHOODS
from ekfac_ref.conformance.mutants.columns.losses import LOSSES
from ekfac_ref.conformance.mutants.eigenvalues.by_batch import LAMBDA_BY_BATCH
from ekfac_ref.conformance.mutants.eigenvalues.numbers import EIGENVALUES
from ekfac_ref.conformance.mutants.eigenvalues.order import LAMBDA_ORDER
from ekfac_ref.conformance.mutants.eigenvalues.scale import SCALE
from ekfac_ref.conformance.mutants.eigenvalues.squares import SQUARES
from ekfac_ref.conformance.mutants.inputs.biases import BIASES
from ekfac_ref.conformance.mutants.inputs.coverage import COVERAGE
from ekfac_ref.conformance.mutants.inputs.embeddings import EMBEDDINGS
from ekfac_ref.conformance.mutants.inputs.layouts import LAYOUTS
from ekfac_ref.conformance.mutants.inputs.patches import PATCHES
from ekfac_ref.conformance.mutants.inputs.positions import POSITIONS
from ekfac_ref.conformance.mutants.inputs.samples import SAMPLES
from ekfac_ref.conformance.mutants.inputs.uses import USES
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.operator.products import PRODUCTS
from ekfac_ref.conformance.mutants.operator.solves import SOLVES

# Those that are made inside one layer, from what it saw.
_LAMBDA = (*SQUARES, *EIGENVALUES, *LAMBDA_ORDER, *LAMBDA_BY_BATCH)
_BASIS = (*EIGENVECTORS, *FACTORS, *FACTORS_BY_BATCH)
_OPERATOR = (*PRODUCTS, *SOLVES)
# Those that are made before: which samples, labels, inputs and positions a layer sees.
_COLUMNS = (*LABELS, *LIKELIHOODS, *LOSSES)
_INPUTS = (*BIASES, *PATCHES, *LAYOUTS, *EMBEDDINGS, *USES, *POSITIONS, *COVERAGE)
# Those that are made around an answer that may be right, and in BLOCKS beside it.
_AROUND = (*SIDE_EFFECTS, *SILENCE)


_ALL: tuple[Mutant, ...] = (
    *(*_LAMBDA, *SCALE, *_BASIS, *_OPERATOR),
    *(*SAMPLES, *_COLUMNS, *_INPUTS),
    *_AROUND,
    *OTHER_DEFINITIONS,
    *BLOCKS,
)

MUTANTS: Mapping[str, Mutant] = MappingProxyType({mutant.name: mutant for mutant in _ALL})
