"""The catalogue: implementations with one mistake each, in EKFAC or in a matrix beside it."""

from collections.abc import Mapping
from types import MappingProxyType

from ekfac_ref.conformance.mutants.basis.eigenvectors import EIGENVECTORS
from ekfac_ref.conformance.mutants.basis.factors import FACTORS
from ekfac_ref.conformance.mutants.basis.other_definitions import OTHER_DEFINITIONS
from ekfac_ref.conformance.mutants.beside.draws import DRAWN
from ekfac_ref.conformance.mutants.beside.failures import FAILURES
from ekfac_ref.conformance.mutants.beside.kfac_and_fisher import BLOCKS
from ekfac_ref.conformance.mutants.beside.manners import MANNERS
from ekfac_ref.conformance.mutants.beside.training import UPDATES
from ekfac_ref.conformance.mutants.columns.labels import LABELS
from ekfac_ref.conformance.mutants.columns.likelihoods import LIKELIHOODS
from ekfac_ref.conformance.mutants.columns.losses import LOSSES
from ekfac_ref.conformance.mutants.eigenvalues.numbers import EIGENVALUES
from ekfac_ref.conformance.mutants.eigenvalues.order import LAMBDA_ORDER
from ekfac_ref.conformance.mutants.eigenvalues.scale import SCALE
from ekfac_ref.conformance.mutants.eigenvalues.squares import LAMBDA_BY_BATCH, SQUARES
from ekfac_ref.conformance.mutants.inputs.biases import BIASES
from ekfac_ref.conformance.mutants.inputs.layouts import LAYOUTS
from ekfac_ref.conformance.mutants.inputs.patches import PATCHES
from ekfac_ref.conformance.mutants.inputs.positions import POSITIONS
from ekfac_ref.conformance.mutants.inputs.samples import SAMPLES
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.operator.products import PRODUCTS
from ekfac_ref.conformance.mutants.operator.solves import SOLVES

CATALOGUE: tuple[Mutant, ...] = (
    # Made inside one layer, from what it saw: in Lambda, in the basis, in the operator.
    *(*SQUARES, *EIGENVALUES, *LAMBDA_ORDER, *LAMBDA_BY_BATCH, *SCALE),
    *(*EIGENVECTORS, *FACTORS),
    *(*PRODUCTS, *SOLVES),
    # Made before: which samples, labels, inputs and positions a layer sees.
    *SAMPLES,
    *(*LABELS, *LIKELIHOODS, *LOSSES),
    *(*BIASES, *PATCHES, *LAYOUTS, *POSITIONS),
    # Made around an answer that may be right, and beside it.
    *(*MANNERS, *FAILURES, *OTHER_DEFINITIONS, *BLOCKS, *UPDATES, *DRAWN),
)

MUTANTS: Mapping[str, Mutant] = MappingProxyType({mutant.name: mutant for mutant in CATALOGUE})
