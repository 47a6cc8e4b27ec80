"""A feature that is present, or absent, and the problems on which it is."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ekfac_ref.conformance.findings.common import COMMON
from ekfac_ref.conformance.problems.features import FEATURES

ABSENT = 2.0  # what a feature that is absent costs; one that is present costs 1


@dataclass(frozen=True)
class Literal:
    """A feature that is present, or absent, and on which problems: bit i stands for problem i."""

    name: str
    is_present: bool
    mask: int
    also: tuple[str, ...] = ()

    @property
    def cost(self) -> float:
        return 1.0 if self.is_present else ABSENT


def literals_of(problems: Sequence[Collection[str]], everything: int) -> list[Literal]:
    """Of every set of problems that some feature tells apart, the first that does."""
    order = {name: i for i, name in enumerate(FEATURES)}
    names = sorted({n for f in problems for n in f}, key=lambda n: (order.get(n, len(order)), n))
    has = {name: sum(1 << i for i, f in enumerate(problems) if name in f) for name in names}
    found: dict[int, Literal] = {}
    for is_present in (True, False):
        for name in names:
            mask = has[name] if is_present else everything & ~has[name]
            if mask in (0, everything):
                continue
            if (first := found.get(mask)) is None:
                found[mask] = Literal(name, is_present, mask)
            elif first.is_present and is_present and not _is_told((first.name, *first.also), name):
                also = (*first.also, name)
                found[mask] = Literal(first.name, True, mask, also)
    return list(found.values())


def _is_told(names: Collection[str], name: str) -> bool:
    """Whether one of these names says already what this common one does."""
    return any(one in COMMON.get(name, ()) for one in names)
