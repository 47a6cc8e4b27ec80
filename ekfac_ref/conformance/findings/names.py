"""Several mistakes at once, each by its name and by where it shows; a single one by its name."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ekfac_ref.conformance.findings.causes import Cause
from ekfac_ref.conformance.findings.conjunction import Conjunction

SEVERAL = 3  # mistakes at once, at most, that are looked for in the catalogue


class Named(Protocol):
    """What a diagnosis comes to: a sentence, and the mistake in a word or two if one fits."""

    @property
    def sentence(self) -> str:
        """What may be the mistake, in English."""
        ...

    @property
    def named(self) -> str:
        """The mistake in a word or two, always in the same ones; "" where none fits."""
        ...


def names(causes: Sequence[Cause], name: Callable[[Sequence[int]], Named]) -> str:
    """What the diagnosis says of these causes, each mistake once.

    What the problems of a cause have in common may be a coincidence, and they may be too few for a
    name: then the one name that fits on whatever problems is that of the mistake.

    Args:
        causes: with the features of each.
        name: the mistake that shows on problems with these numbers; with none, on whatever ones.
    """
    if len(causes) < 2:  # one mistake, or nobody knows where
        return name(()).sentence
    causes = causes[:SEVERAL]
    found = [name(cause.problems) for cause in causes]
    if not all(one.named for one in found):
        anywhere = name(())
        if anywhere.named and all(one.named in ("", anywhere.named) for one in found):
            return anywhere.sentence
    where: dict[str, list[Conjunction]] = {}
    sentences: dict[str, str] = {}
    for cause, one in zip(causes, found, strict=True):
        what = one.named or one.sentence
        sentences.setdefault(what, one.sentence)
        where.setdefault(what, []).extend([cause.attributed.where] if cause.attributed else [])
    return " ".join(f"{_where(where[what])}{says}" for what, says in sentences.items())


def _where(every: Sequence[Conjunction]) -> str:
    """The beginning of a sentence; nothing where it is everywhere."""
    if Conjunction() in every:
        return ""
    return f"Where {', and where '.join(map(str, every))}: "
