"""A mistake often comes with a scalar, a forgotten 1/N or a loss module's 2/K: find c N^p T^q K^r.

Two lists of matrices are compared up to one such monomial, the same everywhere.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

import torch
from torch import Tensor

from ekfac_ref.conformance.diagnosis.comparable import Precision
from ekfac_ref.conformance.diagnosis.comparison import Comparison, relative

EXPONENTS = tuple(x / 2 for x in range(-4, 5))


@dataclass(frozen=True)
class Candidate:
    """One explanation: the matrices of a mutant, times constant N^p T^q K^r.

    Attributes:
        name: of the mutant, or "correct" for the definition.
        constant: c.
        exponents: (p, q, r).
        error: the worst relative error in the Frobenius norm over all problems and layers.
    """

    name: str
    constant: float
    exponents: tuple[float, float, float]
    error: float

    @property
    def complexity(self) -> tuple[int, float]:
        """Fewer and smaller exponents are simpler, none and no constant the simplest."""
        used = [abs(x) for x in self.exponents if x]
        return len(used) + (self.constant != 1), sum(used, 0.0)

    @property
    def factor(self) -> str:
        """The monomial as one writes it: "2 N / K"; "1" for none."""
        return _written(self.constant, self.exponents)


def judged(
    name: str, answers: list[list[Tensor]], comparisons: list[Comparison], precision: Precision
) -> Candidate:
    """The best monomial, and the error that it leaves."""
    given, theirs = _flat([c.given for c in comparisons]), _flat(answers)
    constant, exponents = _fit(_scalars(given, theirs), _sizes(comparisons), precision)
    best = Candidate(name, constant, exponents, 0.0)
    return replace(best, error=left_over(best, answers, comparisons))


def left_over(
    candidate: Candidate, answers: list[list[Tensor]], comparisons: list[Comparison]
) -> float:
    """The worst relative error of the answers times the monomial."""
    exponents = torch.tensor(candidate.exponents).double()
    factors = candidate.constant * (_sizes(comparisons) ** exponents).prod(1)
    given, theirs = _flat([c.given for c in comparisons]), _flat(answers)
    return max(relative(x, m * y) for x, m, y in zip(given, factors, theirs, strict=True))


def _flat(answers: list[list[Tensor]]) -> list[Tensor]:
    return [x for answer in answers for x in answer]


def _sizes(comparisons: list[Comparison]) -> Tensor:
    """[.., 3]: N, T and K for every matrix."""
    return torch.tensor([size for c in comparisons for size in c.question.sizes]).double()


def _scalars(given: list[Tensor], theirs: list[Tensor]) -> Tensor:
    """The best scalar for each pair of matrices, NaN where both are zero."""
    pairs = zip(given, theirs, strict=True)
    return torch.stack([(x * y).sum() / (y * y).sum() for x, y in pairs])


def _fit(
    scalars: Tensor, sizes: Tensor, precision: Precision
) -> tuple[float, tuple[float, float, float]]:
    """Least squares for the logarithm, over all small exponents; the simplest wins ties."""
    signs = scalars.sign()
    usable = scalars.isfinite() & (scalars != 0)
    if not usable.any() or signs[usable].unique().numel() > 1:
        return 1.0, (0.0, 0.0, 0.0)
    logs, variables = scalars[usable].abs().log(), sizes[usable].log()
    grid = torch.tensor([*product(EXPONENTS, repeat=3)]).double()
    rest = logs - grid @ variables.T
    means = rest.mean(1)
    misfit = (rest - means[:, None]).square().mean(1).sqrt()
    tied = (misfit <= max(precision.fits, 2 * float(misfit.amin()))).nonzero()[:, 0].tolist()
    best = min(tied, key=lambda i: _simplicity(grid[i].tolist()))
    p, q, r = grid[best].tolist()
    constant = float(signs[usable][0] * means[best].exp())
    return _rounded(constant, precision), (p, q, r)


def _simplicity(exponents: list[float]) -> tuple[int, bool, float]:
    used = [abs(x) for x in exponents if x]
    return len(used), any(x % 1 for x in used), sum(used, 0.0)


def _rounded(constant: float, precision: Precision) -> float:
    """A ratio of small integers where it is one to rounding."""
    ratio = float(Fraction(constant).limit_denominator(12))
    return ratio if abs(ratio - constant) <= precision.fits * abs(constant) else constant


def _written(constant: float, exponents: tuple[float, float, float]) -> str:
    """Like "-2 N / (3 K^2)"."""
    sign = "-" if constant < 0 else ""
    top, bottom = _as_ratio(abs(constant))
    powers = list(zip("NTK", exponents, strict=True))
    over = [*top, *(_power(x, e) for x, e in powers if e > 0)] or ["1"]
    under = [*bottom, *(_power(x, -e) for x, e in powers if e < 0)]
    if not under:
        return sign + " ".join(over)
    below = under[0] if len(under) == 1 else f"({' '.join(under)})"
    return f"{sign}{' '.join(over)} / {below}"


def _as_ratio(constant: float) -> tuple[list[str], list[str]]:
    """Numerator and denominator, ones left out; a square root or a decimal where it is no ratio."""
    for value, form in ((constant, "{}"), (constant**2, "sqrt({})")):
        ratio = Fraction(value).limit_denominator(12)
        if ratio and abs(float(ratio) - value) <= 1e-9 * value:
            parts = ratio.numerator, ratio.denominator
            over, under = ([form.format(x)] if x != 1 else [] for x in parts)
            return over, under
    return [f"{constant:.3g}"], []


def _power(letter: str, exponent: float) -> str:
    if exponent == 1:
        return letter
    if exponent == 0.5:
        return f"sqrt({letter})"
    return f"{letter}^{exponent:g}"
