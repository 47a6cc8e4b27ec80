"""Mistakes of scale: the 1/N in another place, or another number in its place."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import CORRECT, with_eigenvalues, with_lambda_of
from ekfac_ref.conformance.subjects.subject import Ask
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation

_SCALE_FREE = (
    "c A has the eigenvectors of A for any c > 0, and Lambda is measured from the gradients: the "
    "factor meets the result through its eigenvectors only."
)


def _times(factor: Callable[[Observation], float]) -> Ask:
    """An EKFAC with Lambda times a number."""
    return with_eigenvalues(lambda seen, *Q: factor(seen) * oracle.eigenvalues(seen, *Q))


def _each_times(factor: Callable[[Observation, int], float]) -> Ask:
    """An EKFAC with every sample's gradients times a number of its own, in Lambda."""
    return with_lambda_of(
        lambda seen: replace(seen, G=[G * factor(seen, n) for n, G in enumerate(seen.G)])
    )


def _positions(seen: Observation) -> int:
    """N T, where T is one number."""
    return sum(len(a) for a in seen.a)


def _batch_size(seen: Observation, n: int) -> int:
    return seen.batch.count(seen.batch[n])


_mutant = partial(Mutant, laws=("eigenvalues", "trace"))

SCALE = (
    _mutant(
        name="sum-over-samples",
        mistake="sums over samples (right: averages)",
        story="A loss with reduction='sum' and no 1/N anywhere else.",
        ekfac=_times(lambda seen: len(seen.G)),
        laws=("eigenvalues", "trace", "doubled"),
        only="N > 1",
    ),
    _mutant(
        name="divided-by-n-twice",
        mistake="divides by N^2 (right: by N)",
        story="A mean loss whose gradients already contain 1/N, squared, without multiplying back: "
        "natural-gradients#2, backpack#49; N^3 in kfac-jax@62d9203.",
        ekfac=_times(lambda seen: 1 / len(seen.G)),
        laws=("eigenvalues", "trace", "doubled"),
        only="N > 1",
    ),
    _mutant(
        name="unbiased",
        mistake="divides by N - 1 (right: by N)",
        story="The default of a library's variance or covariance.",
        ekfac=_times(lambda seen: len(seen.G) / max(len(seen.G) - 1, 1)),
        laws=("eigenvalues", "trace", "doubled"),
        only="N > 1",
    ),
    _mutant(
        name="mean-over-columns",
        mistake="averages over the columns of the Fisher's square root (right: sums)",
        story="curvlinops#111: a scale 1/C in the loss and another in the columns.",
        ekfac=_times(lambda seen: len(seen.G) / sum(map(len, seen.G))),
        only="C > 1",
    ),
    _mutant(
        name="mean-over-entries",
        mistake="divides the gradients by the number of columns (right: not at all)",
        story="curvlinops#108: 'mean' of torch runs over the outputs too, and this was squared.",
        ekfac=_each_times(lambda seen, n: 1 / len(seen.G[n])),
        only="C > 1",
    ),
    _mutant(
        name="mean-over-positions",
        mistake="divides by the number of positions (right: by that of samples)",
        story="Tokens counted where sequences are meant, as in GPTQModel#1584 and kindred "
        "covariances.",
        ekfac=_times(lambda seen: len(seen.G) / _positions(seen)),
        only="T > 1",
    ),
    _mutant(
        name="gradient-averaged-over-positions",
        mistake="averages the gradient over positions (right: sums)",
        story="The 1/T of KFAC's reduced inputs used for the gradient itself.",
        ekfac=_each_times(lambda seen, n: 1 / len(seen.a[n])),
        only="T > 1",
    ),
    _mutant(
        name="twice",
        mistake="is twice too large (right: the 1/2 of the squared error cancels the 2)",
        story="The squared error without its half: probably curvlinops#82 and Laplace#146.",
        ekfac=_times(lambda seen: 2.0),
    ),
    _mutant(
        name="scaled-by-the-first-batch",
        mistake="undoes every batch's 1/size with the size of the first batch (right: its own)",
        story="Mean losses of batches, with one nominal batch size to multiply back: bergson#112.",
        ekfac=_each_times(lambda seen, n: _batch_size(seen, 0) / _batch_size(seen, n)),
        laws=("eigenvalues", "trace", "recut"),
        only="batches of different sizes",
    ),
    _mutant(
        name="times-batch-size",
        mistake="multiplies a sample's gradients by the size of its batch (right: not at all)",
        story="A mean undone that was never taken, or the batch's sum over the length of one row: "
        "bergson@fb52f1d.",
        ekfac=_each_times(_batch_size),
        laws=("eigenvalues", "trace", "recut"),
        only="batches of more than one sample",
    ),
    _mutant(
        name="over-parameters",
        mistake="divides by the number of the layer's weights (right: not at all)",
        story="A mean over all entries of a gradient. Layers weigh by their shape then, as by the "
        "random projections of bergson@4b9b255.",
        ekfac=_times(lambda seen: 1 / seen.G[0][0].numel()),
        only="d_out d_in > 1",
    ),
    _mutant(
        name="summed-input-factor",
        mistake="sums A over rows (right: averages, and it makes no difference)",
        story="Counts of sequences or of tokens in a covariance: bergson@f173b6a, GPTQModel#2979.",
        ekfac=replace(CORRECT, A=lambda seen: CORRECT.A(seen) * _positions(seen)).ekfac,
        laws=(),
        proof=_SCALE_FREE,
    ),
    _mutant(
        name="output-factor-over-n-twice",
        mistake="has N too many in the denominator of B (right: one, and it makes no difference)",
        story="natural-gradients#2, in a factor.",
        ekfac=replace(CORRECT, B=lambda seen: CORRECT.B(seen) / len(seen.G)).ekfac,
        laws=(),
        proof=_SCALE_FREE,
    ),
    _mutant(
        name="positions-in-the-other-factor",
        mistake="divides B by the positions and multiplies A (right: the other way round, and it "
        "makes no difference)",
        story="Where the 1/T of a convolution goes: nngeometry#75, kfac#41.",
        ekfac=replace(
            CORRECT,
            B=lambda seen: CORRECT.B(seen) / len(seen.a[0]),
            A=lambda seen: CORRECT.A(seen) * len(seen.a[0]),
        ).ekfac,
        laws=(),
        proof=_SCALE_FREE,
    ),
)
