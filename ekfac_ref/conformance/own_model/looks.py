"""What the wrong blocks of a model look like: right up to a factor, or to a coarser precision.

The diagnosis of drawn problems compares P x P numbers with a catalogue of mistakes. Here a few
products are all there is, and they tell what is most often wrong with an adapter: a scale that it
does not declare, a library that computes in float32, a Fisher whose labels are drawn.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from ekfac_ref.conformance.adapter.conventions import SCALES
from ekfac_ref.conformance.own_model.inverse_looks import SCALED, ways_of
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.own_law import norm
from ekfac_ref.conformance.truth.tolerance import MISTAKE
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.problem import Problem

# {"E", "K" or "P", where that is wrong: each way to say what it looks like, if there is any}
Looks = Mapping[str, Sequence[str]]
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
_CALLED = {"E": "E", "K": "K", "P": "What its preconditioner inverts"}
_DECLARED = "; an adapter declares that in Convention(scale=...)."
_OF_E = frozenset(("trace", "moments", "spectrum", "self-projection", "comparison", "eigenvalues"))
_BESIDE_E = frozenset(("commutes", "kernel", "orthonormal basis", "eigenbasis", "psd"))
_OF_K = frozenset(("kfac", "factors"))
_FINE = 0.01  # a factor that is known to less than this is not told from others
_SIMPLE = 64  # whole numbers up to this one, and what they are inverse to, are told as such


def looks_like(
    one: Examined, wrong: Mapping[str, float], problem: Problem, changes: Collection[str]
) -> Looks:
    """What E, K and a preconditioner P of a block look like, where they are wrong.

    Args:
        one: the block.
        wrong: {law: how far from holding it is, relatively} of the laws that are broken.
        problem: which.
        changes: what the subject changed while it answered.
    """
    looks: dict[str, list[str]] = {}
    coarse = 100 * torch.finfo(torch.float32).eps
    for name, laws, beside in (("E", _OF_E, _BESIDE_E), ("K", _OF_K, frozenset[str]())):
        broken = {law: size for law, size in wrong.items() if law in laws | beside}
        if not broken:
            continue
        looks[name] = []
        if problem.dtype == torch.float64 and max(broken.values()) <= coarse:
            looks[name] = [AS_SINGLE]
        elif laws >= broken.keys() and (known := _factor(one, name)):
            looks[name] = [*_names(*known, _numbers_of(problem, one.known.positions))]
        elif isinstance(problem.fisher, Exact) and any("rng" in line for line in changes):
            looks[name] = [IF_DRAWN]
    if size := wrong.get("precondition", 0.0):
        fine = problem.dtype == torch.float64 and size <= coarse
        looks["P"] = [AS_SINGLE] if fine else [*_ways(one, problem)]
    return {name: ways for name, ways in looks.items() if ways or name != "P"}


def _ways(one: Examined, problem: Problem) -> Iterator[str]:
    """Every way in which its preconditioner may have gone."""
    for way, c, off in ways_of(one):
        if way is SCALED:
            yield from _names(c, off, _numbers_of(problem, one.known.positions))
        else:
            yield way.says.format(_as_number(c, off))


def _names(factor: float, off: float, numbers: Mapping[str, float]) -> Iterator[str]:
    """A factor that may be so far off, relatively, as it is; then what it may be, by name."""
    yield A_FACTOR + _as_number(factor, off)
    for name, value in numbers.items():
        if abs(value - 1) > _FINE and abs(factor / value - 1) <= off:
            yield A_FACTOR + name


def _as_number(factor: float, off: float) -> str:
    """A small whole number, or what is inverse to one, where it may be that."""
    for k in range(2, _SIMPLE + 1):
        for name, value in ((f"{k}", k), (f"1/{k}", 1 / k)):
            if abs(factor / value - 1) <= off:
                return name
    if abs(factor - 1) < 1.05 * _FINE:
        return f"(1 {'+' if factor > 1 else '-'} {abs(factor - 1):.2g})"
    # Of two texts that are as near, the upper one, on whichever side of the tie rounding left it.
    return f"{factor * (1 + min(off, 1e-4)):.3g}"


def _numbers_of(problem: Problem, positions: int) -> dict[str, float]:
    """{name: value} of what factors are made of: counts, and scales that an adapter may declare."""
    N = sum(len(y) for _, y in problem.batches)
    counts = {
        "number of positions": positions,
        "number of batches": sum(1 for _ in problem.batches),
        "number of targets of a sample": sum(y.numel() for _, y in problem.batches) / N,
    }
    found = {f"the {name}": value for name, value in counts.items()}
    found |= {f"1 / {name}": 1 / value for name, value in found.items()}
    found["1 / the number of samples"] = 1 / N
    for name, scale in SCALES.items():
        with suppress(ValueError):  # a likelihood without a torch loss has no such scale
            found[name] = scale(problem)
    return found


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


def diagnosis(wrong: Sequence[Looks], judged: int) -> str:
    """A sentence on what all wrong blocks have in common, E's, K's and P's; "" where nothing is.

    Who draws labels is right nowhere: where one of the blocks that were judged is, that is not it.
    """
    sentences: list[str] = []
    for name, what in _CALLED.items():
        found = [looks[name] for looks in wrong if name in looks]
        common = [one for one in found[0] if all(one in other for other in found)] if found else []
        if not common or (common == [IF_DRAWN] and len(found) < judged):
            continue
        said, *names = common
        if said.startswith(A_FACTOR):
            if names:
                said += f", which is {' and '.join(x.removeprefix(A_FACTOR) for x in names)} here"
            many = f" on its {len(found)} wrong blocks" if len(found) > 1 else " on its wrong block"
            where = "" if len(found) == judged else many
            said = f"{what} is right up to a factor{where}: {said}"
            said += _DECLARED if name != "P" and not where else "."
        elif name == "P" and names:
            continue  # too little is asked to tell these apart
        if said not in sentences:
            sentences.append(said)
    return " ".join(sentences)
