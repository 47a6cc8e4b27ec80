"""The catalogue: implementations with one mistake each, in EKFAC or in a matrix beside it."""

from ekfac_ref.conformance.mutants.biases import BIASES
from ekfac_ref.conformance.mutants.blocks import BLOCKS
from ekfac_ref.conformance.mutants.coverage import COVERAGE
from ekfac_ref.conformance.mutants.eigenvalues import EIGENVALUES
from ekfac_ref.conformance.mutants.eigenvectors import EIGENVECTORS
from ekfac_ref.conformance.mutants.embeddings import EMBEDDINGS
from ekfac_ref.conformance.mutants.factors import FACTORS
from ekfac_ref.conformance.mutants.factors_by_batch import FACTORS_BY_BATCH
from ekfac_ref.conformance.mutants.labels import LABELS
from ekfac_ref.conformance.mutants.lambda_by_batch import LAMBDA_BY_BATCH
from ekfac_ref.conformance.mutants.lambda_order import LAMBDA_ORDER
from ekfac_ref.conformance.mutants.layouts import LAYOUTS
from ekfac_ref.conformance.mutants.likelihoods import LIKELIHOODS
from ekfac_ref.conformance.mutants.losses import LOSSES
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.other_definitions import OTHER_DEFINITIONS
from ekfac_ref.conformance.mutants.patches import PATCHES
from ekfac_ref.conformance.mutants.positions import POSITIONS
from ekfac_ref.conformance.mutants.products import PRODUCTS
from ekfac_ref.conformance.mutants.samples import SAMPLES
from ekfac_ref.conformance.mutants.scale import SCALE
from ekfac_ref.conformance.mutants.side_effects import SIDE_EFFECTS
from ekfac_ref.conformance.mutants.silence import SILENCE
from ekfac_ref.conformance.mutants.solves import SOLVES
from ekfac_ref.conformance.mutants.squares import SQUARES
from ekfac_ref.conformance.mutants.uses import USES

# Those that are made inside one layer, from what it saw.
_LAMBDA = (*SQUARES, *EIGENVALUES, *LAMBDA_ORDER, *LAMBDA_BY_BATCH)
_BASIS = (*EIGENVECTORS, *FACTORS, *FACTORS_BY_BATCH)
_OPERATOR = (*PRODUCTS, *SOLVES)
# Those that are made before: which samples, labels, inputs and positions a layer sees.
_COLUMNS = (*LABELS, *LIKELIHOODS, *LOSSES)
_INPUTS = (*BIASES, *PATCHES, *LAYOUTS, *EMBEDDINGS, *USES, *POSITIONS, *COVERAGE)
# Those that are made around an answer that may be right, and in BLOCKS beside it.
_AROUND = (*SIDE_EFFECTS, *SILENCE)


CATALOGUE: tuple[Mutant, ...] = (
    *(*_LAMBDA, *SCALE, *_BASIS, *_OPERATOR),
    *(*SAMPLES, *_COLUMNS, *_INPUTS),
    *_AROUND,
    *OTHER_DEFINITIONS,
    *BLOCKS,
)
