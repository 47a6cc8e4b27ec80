"""A mistake often comes with a scalar, a forgotten 1/N or a loss module's 2/K: find c N^p T^q K^r.

Two lists of matrices are compared up to one such monomial, the same everywhere.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

import torch
from torch import Tensor

from ekfac_ref.conformance.diagnosis.comparable import DOUBLE, Precision
from ekfac_ref.conformance.diagnosis.comparison import Comparison, relative

EXPONENTS = tuple(x / 2 for x in range(-4, 5))  # p, q and r from -2 to 2, halves for roots
LARGEST = 12  # in a ratio of small integers; what is no such ratio is written as a decimal
NO_MISTAKE = "correct"  # in place of a mutant's name, for the definition


@dataclass(frozen=True)
class Candidate:
    """One explanation: the matrices of a mutant, times constant N^p T^q K^r.

    Attributes:
        name: of the mutant, or NO_MISTAKE for the definition.
        constant: c.
        exponents: (p, q, r).
        error: the worst relative error in the Frobenius norm over all problems and layers.
        precision: of the problems.
        exceptions: so many problems are left out of the error: on these it is another matrix.
    """

    name: str
    constant: float
    exponents: tuple[float, float, float]
    error: float
    precision: Precision = DOUBLE
    exceptions: int = 0

    @property
    def agrees(self) -> bool:
        """Whether the matrices, times the factor, equal the subject's up to rounding."""
        return self.error <= self.precision.fits

    @property
    def complexity(self) -> tuple[int, float]:
        """(0, 0) for no factor; more for a constant, and for more and larger exponents."""
        used = [abs(x) for x in self.exponents if x]
        return len(used) + (self.constant != 1), sum(used, 0.0)

    @property
    def factor(self) -> str:
        """The monomial as one writes it: "2 N / K"; "1" for none."""
        return _written(self.constant, self.exponents)


def judged(name: str, theirs: list[Comparison], subject: list[Comparison]) -> Candidate:
    """The monomial by which another's answers are nearest to the subject's to the same questions.

    ``name`` is that of the other, of a mutant or of the definition.
    """
    # The best scalar for each pair of matrices, NaN where both are zero.
    scalars = torch.stack([(x * y).sum() / (y * y).sum() for x, y in _pairs(subject, theirs)])
    precision = subject[0].question.precision
    constant, exponents = _fit(scalars, _sizes(subject), precision)
    best = Candidate(name, constant, exponents, 0.0, precision)
    return replace(best, error=left_over(best, theirs, subject))


def left_over(candidate: Candidate, theirs: list[Comparison], subject: list[Comparison]) -> float:
    """The worst relative error of the other's answers, times the monomial, to the subject's."""
    exponents = torch.tensor(candidate.exponents).double()
    factors = candidate.constant * (_sizes(subject) ** exponents).prod(1)
    pairs = zip(_pairs(subject, theirs), factors, strict=True)
    return max(relative(x, m * y) for (x, y), m in pairs)


def _pairs(ones: list[Comparison], others: list[Comparison]) -> list[tuple[Tensor, Tensor]]:
    pairs = zip(ones, others, strict=True)
    return [xy for one, other in pairs for xy in zip(one.given, other.given, strict=True)]


def _sizes(comparisons: list[Comparison]) -> Tensor:
    """[.., 3]: N, T and K for every matrix."""
    return torch.tensor([size for c in comparisons for size in c.question.sizes]).double()


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
    ratio = float(Fraction(constant).limit_denominator(LARGEST))
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
        ratio = Fraction(value).limit_denominator(LARGEST)
        if ratio and abs(float(ratio) - value) <= 1e-9 * value:  # to rounding
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
