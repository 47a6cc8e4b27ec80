"""What the wrong blocks of a model look like: right up to a factor, or to a coarser precision.

The diagnosis of drawn problems compares P x P numbers with a catalogue of mistakes. Here a few
products are all there is, and they tell what is most often wrong with an adapter: a scale that it
does not declare, a library that computes in float32, a Fisher whose labels are drawn.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ekfac_ref.conformance.adapter.conventions import SCALES
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.own_law import norm
from ekfac_ref.conformance.truth.tolerance import MISTAKE
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.problem import Problem

LOOKS_LIKE = "looks like"  # in place of a law's name, where a block says this of itself
A_FACTOR = "times "
AS_SINGLE = (
    "It is right to what float32 can do, and the problem is in float64: have it compute in the "
    "dtype of the problem, or pose the problem in float32."
)
IF_DRAWN = (
    "It moved a random state while it answered, and the problem has Exact(): if it draws its "
    "labels, it is an estimate, which is right in the mean alone; ask drawn problems about it as "
    "sampled_ekfac or sampled_kfac, or have it take the data's labels, under Empirical()."
)
_OF_E = frozenset(("trace", "moments", "spectrum", "self-projection", "comparison", "eigenvalues"))
_BESIDE_E = frozenset(("commutes", "kernel", "orthonormal basis", "eigenbasis", "psd"))
_OF_K = frozenset(("kfac", "factors"))
_FINE = 0.01  # a factor that is known to less than this is not told from others
_SIMPLE = 64  # whole numbers up to this one, and what they are inverse to, are told as such


@dataclass(frozen=True)
class NamedNumbers:
    """What factors are made of, {its name: the number}, of a whole problem."""

    of_problem: Mapping[str, float]

    @classmethod
    def of(cls, problem: Problem) -> "NamedNumbers":
        """Scales that an adapter may declare; samples, batches, targets."""
        found: dict[str, float] = {}
        for name, scale in SCALES.items():
            try:
                found[name] = scale(problem)
            except Exception:  # a likelihood without a torch loss has no such scale
                continue
        N = sum(len(y) for _, y in problem.batches)
        counts = {
            "number of batches": sum(1 for _ in problem.batches),
            "number of targets of a sample": sum(y.numel() for _, y in problem.batches) / N,
        }
        return cls(found | {"1 / the number of samples": 1 / N} | _with_inverse(counts))

    def named(self, factor: float, off: float, positions: int) -> Iterator[str]:
        """A factor that may be so far off, relatively, as it is; then what it may be, by name."""
        yield A_FACTOR + _as_number(factor, off)
        names = _with_inverse({"number of positions": positions}) | dict(self.of_problem)
        for name, value in names.items():
            if abs(value - 1) > _FINE and abs(factor / value - 1) <= off:
                yield A_FACTOR + name


def _as_number(factor: float, off: float) -> str:
    """A small whole number, or what is inverse to one, where it may be that."""
    for k in range(2, _SIMPLE + 1):
        for name, value in ((f"{k}", k), (f"1/{k}", 1 / k)):
            if abs(factor / value - 1) <= off:
                return name
    return f"{factor:.3g}"


def _with_inverse(counts: Mapping[str, float]) -> dict[str, float]:
    named = {f"the {name}": value for name, value in counts.items()}
    return named | {f"1 / {name}": 1 / value for name, value in named.items()}


def looks_like(
    one: Examined,
    wrong: Mapping[str, float],
    problem: Problem,
    numbers: NamedNumbers,
    changes: Collection[str],
) -> str:
    """A line for each way to say what E and K are, where they are wrong; "E" alone where none fits.

    Args:
        one: the block.
        wrong: {law: how far from holding it is, relatively} of the laws that are broken.
        problem: which.
        numbers: what factors may be made of on this problem.
        changes: what the subject changed while it answered.
    """
    lines: list[str] = []
    for name, laws, beside in (("E", _OF_E, _BESIDE_E), ("K", _OF_K, frozenset[str]())):
        broken = {law: size for law, size in wrong.items() if law in laws | beside}
        if not broken:
            continue
        found: list[str] = []
        coarse = 100 * torch.finfo(torch.float32).eps
        if problem.dtype == torch.float64 and max(broken.values()) <= coarse:
            found = [AS_SINGLE]
        elif laws >= broken.keys() and (known := _factor(one, name)):
            found = list(numbers.named(*known, one.known.positions))
        elif isinstance(problem.fisher, Exact) and any("rng" in line for line in changes):
            found = [IF_DRAWN]
        lines += [f"{name} {said}" for said in found] or [name]
    return "\n".join(lines)


def _factor(one: Examined, name: str) -> tuple[float, float] | None:
    """(what all numbers are too large by, how far that may be off), if they are; or None."""
    rows = list(_shown_of_E(one) if name == "E" else _shown_of_K(one))
    if not rows:
        return None
    given, right, _ = min(rows, key=lambda row: row[2] / max(norm(row[1]), 1e-300))
    factor = float((given * right).sum()) / max(norm(right) ** 2, 1e-300)
    if factor <= 0:
        return None
    # Bounds are those of any implementation; how well this one fits tells its factor from others.
    off = max(10 * norm(given / factor - right) / norm(right), 1e-6)
    if off > _FINE or abs(factor - 1) <= off:
        return None
    if any(norm(given / factor - right) > MISTAKE * off for given, right, off in rows):
        return None
    return factor, off


def _shown_of_E(one: Examined) -> Iterator[tuple[Tensor, Tensor, float]]:
    """(answered, right, what rounding may do), of eigenvalues that are shown and that are read."""
    assert one.E is not None
    known = one.known
    if one.in_own_basis is not None:
        off = known.off + one.product_rounding(norm(one.in_own_basis))
        yield one.E.basis()[2], one.in_own_basis, off
    read, right = known.blocks(one.reading.values), known.blocks(known.Lambda)
    for sums in one.sums:
        yield read[sums.read], right[sums.read], sums.off


def _shown_of_K(one: Examined) -> Iterator[tuple[Tensor, Tensor, float]]:
    assert one.K is not None
    V, (B, A) = one.random(10), (one.known.B, one.known.A)
    b, a = norm(B.factor), norm(A.factor)
    off = B.off * a + b * A.off + one.product_rounding(b * a)
    yield one.K.matvec(V.clone()).double(), B.factor @ V.double() @ A.factor, off


def diagnosis(wrong: Sequence[str], judged: int) -> str:
    """A sentence on what all wrong blocks have in common, E's and K's; "" where that is nothing.

    Who draws labels is right nowhere: where one of the blocks that were judged is, that is not it.
    """
    sentences: list[str] = []
    for name in "EK":
        found = [_of(text, name) for text in wrong]
        found = [lines for lines in found if lines is not None]
        first = found[0] or [] if found else []
        common = [line for line in first if all(line in (other or []) for other in found)]
        if not common or (common == [IF_DRAWN] and len(found) < judged):
            continue
        factors = [line for line in common if line.startswith(A_FACTOR)]
        said = common[0]
        if factors:
            same, *names = factors
            if names:
                same += f", which is {' and '.join(x.removeprefix(A_FACTOR) for x in names)} here"
            many = f"its {len(found)} wrong blocks" if len(found) > 1 else "its wrong block"
            said = f"{name} is right up to a factor on {many}: {same}."
            if len(found) == judged:
                said = f"{name} is right up to a factor: {same}; an adapter declares that in "
                said += "Convention(scale=...)."
        if said not in sentences:
            sentences.append(said)
    return " ".join(sentences)


def _of(text: str, name: str) -> list[str] | None:
    """What is said of E, or K; None where it is not wrong."""
    lines = [line for line in text.splitlines() if line[:1] == name]
    return [line[2:] for line in lines if line != name] if lines else None
