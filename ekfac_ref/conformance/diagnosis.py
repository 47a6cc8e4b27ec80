r"""Which mistake is it? A subject's matrices against those of every mutant, on the same problems.

A mistake often comes with a scalar, a forgotten 1/N or a loss module's 2/K, so two lists of
matrices are compared up to a monomial c N^p T^q K^r, the same one everywhere. Only layers whose
eigengaps leave one EKFAC matrix take part, and only problems where one of them has d_in != d_out
and cannot be transposed in silence.

T is the number of positions of the layer, K that of all outputs of a sample.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import product
from math import fsum, inf

import torch
from torch import Tensor

from ekfac_ref.conformance import equivariance, oracle
from ekfac_ref.conformance.draw import draw_problems
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.mutants.mutant import Mutant
from ekfac_ref.conformance.mutants.recipe import Recipe
from ekfac_ref.conformance.observation import Observation, observe
from ekfac_ref.conformance.subject import Abilities, Ask, Subject
from ekfac_ref.conformance.tolerance import fisher_scale
from ekfac_ref.conformance.trial import Trial
from ekfac_ref.forward import call
from ekfac_ref.problem import Problem

CORRECT = "correct"
FAR = 0.5  # nothing further off than this is near
DRAWS = (150, 150)  # problems drawn at once, and again while the subject looks right on them
USED, ODD = 16, 12  # problems to compare on; at most so many of them that tell shapes apart
NEEDED = 3  # problems on which a mutant must differ from the definition to be named
LISTED = 3  # of those that are near, where nothing fits
EXPONENTS = tuple(x / 2 for x in range(-4, 5))


@dataclass(frozen=True)
class Precision:
    """What counts as equal in the subject's dtype.

    Attributes:
        dtype: of the problems.
        fits: the largest relative error that is called agreement.
        differs: the smallest that is called a difference.
        gap: eigengaps that a layer needs; rounding grows with their inverse.
    """

    dtype: torch.dtype
    fits: float
    differs: float
    gap: float


DOUBLE = Precision(torch.float64, 1e-8, 1e-6, equivariance.GATE)
SINGLE = Precision(torch.float32, 1e-3, 1e-2, 30 * equivariance.GATE)


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


@dataclass(frozen=True)
class Diagnosis:
    """What the mistake may be.

    Attributes:
        candidates: those that agree, the simplest first, then the nearest others.
        sentence: the same in English.
    """

    candidates: list[Candidate]
    sentence: str


def diagnose(subject: Subject, catalogue: Sequence[Mutant] = CATALOGUE, seed: int = 0) -> Diagnosis:
    """Name the mistake of a subject, if it is one of the catalogue's."""
    precision = DOUBLE if torch.float64 in subject.abilities.dtypes else SINGLE
    comparisons = _comparisons(subject, precision, seed)
    if not comparisons:
        return Diagnosis([], "Nothing can be compared: no problem has a single right answer here.")
    right = _judged(CORRECT, [c.question.correct for c in comparisons], comparisons, precision)
    if _agrees(right, precision) and right.complexity == (0, 0):
        return Diagnosis([right], "It agrees with the definition.")
    if _differs([c.given for c in comparisons], comparisons, precision) < NEEDED:
        return Diagnosis([right], _too_rare(comparisons, precision))
    near = _nearest(catalogue, comparisons, precision, _agrees(right, precision))
    candidates = sorted([right, *near], key=lambda c: _rank(c, precision))
    mistakes = {mutant.name: mutant.mistake for mutant in catalogue}
    return Diagnosis(candidates, _sentence(candidates, mistakes, len(comparisons), precision))


# Problems and matrices.


@dataclass(frozen=True, eq=False)
class _Question:
    """One problem, which of its layers (and groups) are compared, and what they should be."""

    problem: Problem
    seen: dict[str, list[Observation]]
    rows: list[int]
    sizes: list[tuple[int, int, int]]
    shapes: list[tuple[int, int]]
    correct: list[Tensor]

    @property
    def features(self) -> set[object]:
        """What should vary from one problem to the next."""
        sizes = {x for size in self.sizes for x in zip("NTK", size, strict=True)}
        kinds = {type(module) for module in self.problem.model.modules()}
        fisher, sharing = type(self.problem.fisher), type(self.problem.sharing)
        mask = ("mask", self.problem.mask is not None)
        return {*sizes, *kinds, fisher, sharing, mask, type(self.problem.likelihood)}


@dataclass(frozen=True, eq=False)
class _Comparison:
    """A question and the subject's answer."""

    question: _Question
    given: list[Tensor]

    @cached_property
    def misshapen(self) -> float:
        """How far the answer is off when every layer may have a scalar of its own."""
        return max(map(_sine, self.given, self.question.correct))

    @property
    def wrong(self) -> float:
        """How far it is off as it stands."""
        return max(map(_relative, self.given, self.question.correct))


def _comparisons(subject: Subject, precision: Precision, seed: int) -> list[_Comparison]:
    """Problems that the subject answers, in variety; more are drawn while it looks right."""
    found: list[_Comparison] = []
    for more, count in enumerate(DRAWS):
        found += _compared(subject, precision, count, seed + more)
        if len(found) >= USED and _tell(found, precision):
            break
    odd = [c for c in found if c.misshapen > precision.differs]
    even = [c for c in found if c.misshapen <= precision.differs]
    chosen = _varied(odd, ODD if even else USED, [])
    return _varied(even, USED, chosen)


def _tell(found: list[_Comparison], precision: Precision) -> bool:
    """Whether a mistake shows well enough: in the shape of some matrices or the size of all."""
    shows = sum(c.misshapen > precision.differs for c in found) >= NEEDED
    return shows or _differs([c.given for c in found], found, precision) == len(found)


def _compared(
    subject: Subject, precision: Precision, count: int, seed: int
) -> Iterable[_Comparison]:
    """The questions of a draw on which the subject gives an answer."""
    abilities = replace(subject.abilities, dtypes=(precision.dtype,))
    for question in _questions(abilities, precision, count, seed):
        given = _matrices(subject.ekfac, question)
        if given is not None:
            yield _Comparison(question, given)


@lru_cache(maxsize=8)  # they take longer than most subjects' answers
def _questions(
    abilities: Abilities, precision: Precision, count: int, seed: int
) -> tuple[_Question, ...]:
    """Of ``count`` problems, those with something to compare."""
    problems = [p for p in draw_problems(abilities, count, seed) if _informative(p)]
    questions = [_question(problem, precision) for problem in problems]
    return tuple(q for q in questions if any(d_out != d_in for d_out, d_in in q.shapes))


def _informative(problem: Problem) -> bool:
    """Several samples in uneven batches, several outputs: their numbers leave traces."""
    sizes = {len(y) for _, y in problem.batches}
    return _samples(problem) >= 3 and len(sizes) > 1 and _outputs(problem) >= 2


def _question(problem: Problem, precision: Precision) -> _Question:
    seen = observe(problem)
    groups = [one for several in seen.values() for one in several]
    rows = [i for i, one in enumerate(groups) if _comparable(one, precision)]
    N, K = _samples(problem), _outputs(problem)
    sizes = [(N, groups[i].g[0].shape[1], K) for i in rows]
    shapes = [(groups[i].G[0].shape[1], groups[i].G[0].shape[2]) for i in rows]
    return _Question(problem, seen, rows, sizes, shapes, [oracle.ekfac(groups[i]) for i in rows])


def _samples(problem: Problem) -> int:
    return sum(len(y) for _, y in problem.batches)


def _outputs(problem: Problem) -> int:
    inputs, _ = next(iter(problem.batches))
    with torch.no_grad():
        return call(problem.model, inputs)[0].numel()


def _comparable(seen: Observation, precision: Precision) -> bool:
    size = oracle.fisher(seen).norm()
    # Where gradients cancel to nothing, their matrix is rounding.
    loud = bool(size > precision.differs * fisher_scale(seen))
    # A wrong matrix may also depend on the basis of a null space, which the right one never does.
    gap = min(equivariance.relative_gap(factor, False) for factor in oracle.factors(seen))
    return loud and gap >= precision.gap


def _matrices(ask: Ask, question: _Question) -> list[Tensor] | None:
    """The answer's matrices, None where there is no answer."""
    trial = Trial(Subject("", _seeing(ask, question.seen)), question.problem)
    trial.seen = question.seen
    try:
        return [trial.cases[i].E.matrix for i in question.rows]
    except Exception:  # whatever went wrong, there is nothing to compare
        return None


def _seeing(ask: Ask, seen: dict[str, list[Observation]]) -> Ask:
    """A recipe need not observe the problem again; that is most of its time."""
    recipe = getattr(ask, "__self__", None)
    if isinstance(recipe, Recipe) and recipe.look is observe:
        return replace(recipe, look=lambda problem: seen).ekfac
    return ask


def _varied(pool: list[_Comparison], count: int, chosen: list[_Comparison]) -> list[_Comparison]:
    """Add up to ``count`` in all, each time the problem with most that has been rare so far."""
    chosen, pool = [*chosen], [*pool]
    times = Counter(x for c in chosen for x in c.question.features)
    while pool and len(chosen) < count:
        best = max(pool, key=lambda c: _novelty(c, times))
        pool.remove(best)
        chosen.append(best)
        times.update(best.question.features)
    return chosen


def _novelty(comparison: _Comparison, times: Counter[object]) -> float:
    several_positions = any(T > 1 for _, T, _ in comparison.question.sizes)
    return 3 * several_positions + fsum(1 / (1 + times[x]) for x in comparison.question.features)


# The search: always the mutant that may still be nearest is asked about one more problem.


@dataclass(eq=False)
class _Suspect:
    mutant: Mutant
    bound: float = 0.0
    matrices: list[list[Tensor]] = field(default_factory=list)

    def ask(self, comparison: _Comparison, distance: Callable[[Tensor, Tensor], float]) -> None:
        """One more problem. No monomial can bring the error under the bound."""
        answer = _matrices(self.mutant.ekfac, comparison.question)
        if answer is None:
            self.bound = inf
            return
        self.bound = max(self.bound, *map(distance, comparison.given, answer))
        self.matrices.append(answer)


def _nearest(
    catalogue: Sequence[Mutant],
    comparisons: list[_Comparison],
    precision: Precision,
    up_to_a_factor: bool,
) -> list[Candidate]:
    """All that agree; if none does, not even the definition, the nearest few within FAR.

    For a subject that is right up to a factor, only those that agree without one: any mutant that
    is off by a factor alone would do with another.
    """
    distance, limit = (_relative, precision.fits) if up_to_a_factor else (_sine, FAR)
    order = sorted(comparisons, key=lambda c: -(c.wrong if up_to_a_factor else c.misshapen))
    queue: list[tuple[float, int, _Suspect | Candidate]] = [
        (0.0, i, _Suspect(mutant)) for i, mutant in enumerate(catalogue)
    ]
    found: list[Candidate] = []
    while queue and queue[0][0] <= limit:
        _, i, first = heapq.heappop(queue)
        if isinstance(first, Candidate):
            found.append(first)
            if _agrees(first, precision) or len(found) == LISTED:
                limit = precision.fits
        elif len(first.matrices) < len(order):
            first.ask(order[len(first.matrices)], distance)
            heapq.heappush(queue, (first.bound, i, first))
        elif _differs(first.matrices, order, precision) >= NEEDED:
            judged = _judged(first.mutant.name, first.matrices, order, precision)
            heapq.heappush(queue, (judged.error, i, judged))
    return found


def _differs(
    matrices: list[list[Tensor]], comparisons: list[_Comparison], precision: Precision
) -> int:
    """On how many problems these matrices are not the definition's."""
    return sum(
        any(
            _relative(x, y) > precision.differs
            for x, y in zip(answer, c.question.correct, strict=True)
        )
        for answer, c in zip(matrices, comparisons, strict=True)
    )


# The monomial.


def _judged(
    name: str, matrices: list[list[Tensor]], comparisons: list[_Comparison], precision: Precision
) -> Candidate:
    """The best monomial, and the error that it leaves."""
    given = [x for c in comparisons for x in c.given]
    sizes = torch.tensor([size for c in comparisons for size in c.question.sizes]).double()
    theirs = [x for answer in matrices for x in answer]
    constant, exponents = _fit(_scalars(given, theirs), sizes, precision)
    factors = constant * (sizes ** torch.tensor(exponents).double()).prod(1)
    worst = max(_relative(x, m * y) for x, m, y in zip(given, factors, theirs, strict=True))
    return Candidate(name, constant, exponents, worst)


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


def _sine(x: Tensor, y: Tensor) -> float:
    """The least relative error of any multiple of y: the sine of the angle to it."""
    if not x.any() or not y.any():
        return 0.0 if not x.any() and not y.any() else 1.0
    x, y = x / x.norm(), y / y.norm()
    return float((x - (x * y).sum() * y).norm())


def _relative(x: Tensor, y: Tensor) -> float:
    error, size = float((x - y).norm()), float(y.norm())
    return error / size if size else (inf if error else 0.0)


# In words.


def _agrees(candidate: Candidate, precision: Precision) -> bool:
    return candidate.error <= precision.fits


def _rank(candidate: Candidate, precision: Precision) -> tuple[bool, list[float], bool]:
    """Agreement is rounding and ranks nobody; the error of the others does."""
    agrees = _agrees(candidate, precision)
    order = [*map(float, candidate.complexity)] if agrees else [candidate.error]
    return not agrees, order, candidate.name != CORRECT


def _too_rare(comparisons: list[_Comparison], precision: Precision) -> str:
    times = _differs([c.given for c in comparisons], comparisons, precision)
    return (
        f"It differs from the definition on {times} of {len(comparisons)} problems, too few to "
        "tell which mistake it is."
    )


def _sentence(
    candidates: list[Candidate], mistakes: dict[str, str], problems: int, precision: Precision
) -> str:
    agreeing = [c for c in candidates if _agrees(c, precision)]
    if not agreeing:
        return _nothing_fits(candidates[0], mistakes)
    worst = max(c.error for c in agreeing)
    on = f"agreement {f'{worst:.0e}' if worst else '0'} on {problems} problems"
    right = next((c for c in agreeing if c.name == CORRECT), None)
    if right is None:
        named = [mistakes[c.name] + _times(c) for c in agreeing]
        looks = ", or, which is the same here, ".join(named)
        return f"It looks as if the implementation {looks}: {on}."
    exact = [mistakes[c.name] for c in agreeing if c.name != CORRECT]
    why = ", or, which is the same here, ".join(exact)
    because = f" It looks as if the implementation {why}: {on}." if why else ""
    return f"It is right up to a factor: times {right.factor}.{because}"


def _nothing_fits(nearest: Candidate, mistakes: dict[str, str]) -> str:
    if not nearest.error <= FAR:
        return f"Nothing in the catalogue fits: nothing is nearer than {FAR:.0%}."
    who = (
        "the definition itself"
        if nearest.name == CORRECT
        else f"an implementation that {mistakes[nearest.name]}"
    )
    off = f"{nearest.error:.0%}" if nearest.error >= 0.01 else f"{nearest.error:.0e}"
    times = "" if _only_noise(nearest) else _times(nearest)
    return f"Nothing in the catalogue fits: the nearest is {who}{times}, {off} off."


def _only_noise(candidate: Candidate) -> bool:
    return not any(candidate.exponents) and abs(candidate.constant - 1) <= candidate.error


def _times(candidate: Candidate) -> str:
    return "" if candidate.complexity == (0, 0) else f", times {candidate.factor}"


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
