r"""The curvature that an optimizer should have of one block, update by update.

    A_t, B_t    running means of the batches' own factors
    Q_B, Q_A    eigenvectors of the running factors at the last refresh
    Lambda_t    running mean of the batches' Lambda in the basis of that time; at a refresh the
                diagonal of the old E in the new basis, or nothing
    M_t         (Q_B (x) Q_A) diag(vec Lambda_t) (Q_B (x) Q_A)^T, or KFAC's of the last refresh

From what the block saw, sample by sample. A mutant replaces one of the steps in ``Rules``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.conformance.declared.damping import Damping, Factored, Tikhonov
from ekfac_ref.conformance.declared.training import Hyperparameters, ReExpressed, Training
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.eigengaps import gap_of, silent
from ekfac_ref.conformance.truth.observation import Observation
from ekfac_ref.conformance.truth.tolerance import factor_scales, fisher_scale, length
from ekfac_ref.matrix.eigen import eigh
from ekfac_ref.question.sharing import Expand

_Square = Float[Tensor, "d d"]
_Basis = tuple[Float[Tensor, "d_out d_out"], Float[Tensor, "d_in d_in"]]


@dataclass(frozen=True, eq=False)
class RunningCurvature:
    """M of one block after an update.

    Attributes:
        matrix: M, [P, P].
        factors: (B, A) that it was made of, at the last refresh.
        how: it is damped.
        size: bounds the terms of M, those that its eigenvectors are uncertain by included.
        bounds: on the terms of the factors.
        summands: so many numbers were added up for it.
        gap: the smallest eigengap behind it, over the bound on the factor; 1 where it has no basis.
    """

    matrix: _Square
    factors: _Basis
    how: Damping
    size: float
    bounds: tuple[float, float]
    summands: int
    gap: float

    def inverse(self, damping: float) -> _Square | None:
        """(M + damping I)^-1, or by factors; None where that has no pi."""
        if not isinstance(self.how, Factored):
            w, Q = eigh(self.matrix)
            return (Q / (w.clamp(min=0) + damping)) @ Q.T
        parts = self._parts(damping)
        if parts is None:
            return None
        B, A = (
            torch.linalg.inv(factor + part * torch.eye(len(factor), dtype=factor.dtype))
            for factor, part in zip(self.factors, parts, strict=True)
        )
        return torch.kron(B, A)

    def times(self, square: _Square | None, V: Tensor) -> Tensor:
        """M or its inverse times vec V; NaN where there is no inverse."""
        if square is None:
            return torch.full_like(V, float("nan"))
        return (square @ V.reshape(-1)).reshape(V.shape)

    def roundings(self, damping: float, given: float, x: float) -> float:
        """What roundings of x = P g are relative to, from the norms of g and x."""
        if not isinstance(self.how, Factored):
            return (self.size + damping) / damping * x
        parts = self._parts(damping)
        assert parts is not None
        return oracle.factored_terms(self.factors, self.bounds, parts) / damping**2 * given

    def _parts(self, damping: float) -> tuple[float, float] | None:
        rounding = self.summands * torch.finfo(self.matrix.dtype).eps
        return oracle.parts_by_traces(self.factors, self.bounds, rounding, damping)


def _due(update: int, every: int) -> bool:
    return update % every == 0


def _eigenvectors(B: Tensor, A: Tensor, old: _Basis | None, kept: float) -> _Basis:
    return eigh(B)[1], eigh(A)[1]


def _re_expressed(old: _Square, Q_B: Tensor, Q_A: Tensor, Lambda: Tensor) -> Tensor:
    Q = torch.kron(Q_B, Q_A)
    return (Q.T @ old @ Q).diagonal().reshape(Lambda.shape)


@dataclass(frozen=True)
class Rules:
    """The steps of an update; as they stand, the right ones.

    Attributes:
        parts: (kept, taken) of a running mean, from (training, row counts of the batches, beta).
        due: whether update number t, from 0 on, is a refresh, from (t, refresh_every).
        basis: eigenvectors at a refresh, from (B, A, the old ones or None, kept).
        carried: Lambda in a new basis, from (old E, Q_B, Q_A, old Lambda).
    """

    parts: Callable[[Training, Sequence[float], float], tuple[float, float]] = (
        lambda training, counts, beta: training.average.parts(counts, beta)
    )
    due: Callable[[int, int], bool] = _due
    basis: Callable[[Tensor, Tensor, _Basis | None, float], _Basis] = _eigenvectors
    carried: Callable[[_Square, Tensor, Tensor, Tensor], Tensor] = _re_expressed

    def curvatures(
        self,
        batches: Sequence[Observation],
        how: Damping,
        training: Training,
        settings: Hyperparameters,
    ) -> Iterator[RunningCurvature]:
        """M after every update, from what the block saw of each batch."""
        every, beta = training.refresh_every or settings.refresh_every, settings.decay
        of_ekfac = isinstance(how, Tikhonov)
        A = B = Lambda = torch.zeros(())
        held = basis = oracle.factors(batches[0])  # of the last refresh; the first update is one
        matrix: Tensor | None = None
        rows: list[float] = []
        samples: list[float] = []
        since: list[float] = []  # samples of the batches that are in Lambda
        eigengap = 1.0
        for update, seen in enumerate(batches):
            B_t, A_t = oracle.factors(seen)
            rows.append(float(_rows(seen)))
            samples.append(float(len(seen.G)))
            (kept_A, new_A), (kept_B, new_B) = (
                self.parts(training, counts, beta) for counts in (rows, samples)
            )
            A, B = kept_A * A + new_A * A_t, kept_B * B + new_B * B_t
            so_far = batches[: update + 1]
            bounds = _largest([factor_scales(one) for one in so_far])
            if due := self.due(update, every):
                held = (B, A)
                basis = self.basis(B, A, basis if update else None, kept_B)
                if matrix is not None and isinstance(training.at_refresh, ReExpressed):
                    Lambda = self.carried(matrix, *basis, Lambda)
                else:
                    Lambda, since = torch.zeros(seen.shape, dtype=B.dtype), []
            if of_ekfac:
                since.append(samples[-1])
                kept, new = self.parts(training, since, beta)
                Lambda = kept * Lambda + new * oracle.eigenvalues(seen, *basis)
                Q = torch.kron(*basis)
                matrix = (Q * Lambda.reshape(-1)) @ Q.T
                # Where a later batch may have put something into the null space, that has no basis.
                quiet = due and all(map(silent, so_far))
                eigengap = min(eigengap, gap_of(held, bounds, quiet))
            else:
                matrix = torch.kron(*held)
            size = bounds[0] * bounds[1]
            if of_ekfac and eigengap > 0:
                size = max(size, max(map(fisher_scale, so_far)) / eigengap)
            size *= update + 1  # every refresh turns the old E by as much again
            yield RunningCurvature(
                matrix, held, how, size, bounds, sum(map(length, so_far)), eigengap
            )


def _rows(seen: Observation) -> int:
    """That A is a mean over: positions that count, or runs of them."""
    if isinstance(seen.sharing, Expand):
        return sum(int(counted.sum()) for counted in seen.counted)
    return sum(bool(run.any()) for counted in seen.counted for run in counted.chunk(seen.runs))


def has_rows(seen: Observation) -> bool:
    """Whether any position counts: else there is no A of the batch."""
    return _rows(seen) > 0


def _largest(bounds: list[tuple[float, float]]) -> tuple[float, float]:
    return max(b for b, _ in bounds), max(a for _, a in bounds)
