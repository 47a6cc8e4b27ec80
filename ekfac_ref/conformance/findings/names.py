"""Several mistakes at once, each by its name and by where it shows; a single one by its name."""

from collections.abc import Callable, Sequence
from typing import Protocol

from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.causes import Cause
from ekfac_ref.conformance.findings.outcome import Outcome

SEVERAL = 3  # mistakes at once, at most, that are looked for in the catalogue
WITNESSES = 40  # problems of one cause, at most, on which that is named
ENOUGH = 12  # of these, to draw no others where none fits
RIGHT = 12  # problems beside these
_DTYPES = ("float64", "float32")  # as a diagnosis prefers them; it compares in one


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


def names(
    causes: Sequence[Cause],
    name: Callable[[Sequence[int]], Named],
    outcomes: Sequence[Outcome] = (),
) -> str:
    """What the diagnosis says of these causes, each mistake once.

    What the problems of a cause have in common may be a coincidence, and they may be too few for a
    name: then the one name that fits on whatever problems is that of the mistake. On these a
    mistake that is rare may not show at all, so what else is said of them is not repeated.

    Args:
        causes: of what is measured, with the features of each where that is known.
        name: the mistake that shows on problems with these numbers; with none, on whatever ones.
        outcomes: of every problem of the run.
    """
    if not causes:  # nothing that is compared is wrong
        return name(()).sentence
    if len(causes) == 1:
        return _single(causes[0], name, outcomes)
    causes = causes[:SEVERAL]
    found = [name(_some(cause.problems, WITNESSES)) for cause in causes]
    if not all(one.named for one in found):
        anywhere = name(())
        if anywhere.named and all(one.named in ("", anywhere.named) for one in found):
            return anywhere.sentence
    where: dict[str, list[str]] = {}
    sentences: dict[str, str] = {}
    for cause, one in zip(causes, found, strict=True):
        what = one.named or one.sentence
        sentences.setdefault(what, one.sentence)
        where.setdefault(what, []).append(
            f"where {cause.attributed.where}" if cause.attributed else "on other problems"
        )
    return " ".join(f"{_where(where[what])}{says}" for what, says in sentences.items())


def _single(
    cause: Cause, name: Callable[[Sequence[int]], Named], outcomes: Sequence[Outcome]
) -> str:
    """On whatever problems where it is common, for these are more; else on its own first."""
    anywhere = name(()) if 2 * len(cause.problems) >= cause.asked else None
    if anywhere and anywhere.named:
        return anywhere.sentence
    own = name([*_some(cause.problems, WITNESSES), *_beside(cause, outcomes)])
    if own.named or len(cause.problems) >= ENOUGH:
        return own.sentence
    anywhere = anywhere or name(())
    return anywhere.sentence if anywhere.named else own.sentence


def _beside(cause: Cause, outcomes: Sequence[Outcome]) -> list[int]:
    """Problems that are right, first such with what the wrong ones have, in one dtype of theirs."""
    wrong = [{*outcomes[i].features} for i in cause.problems if i < len(outcomes)]
    dtype = next((d for d in _DTYPES if any(d in features for features in wrong)), "")
    shared = set[str]().union(*wrong)
    right = [
        (-len(shared & {*one.features}), i)
        for i, one in enumerate(outcomes)
        if one.is_answered and not one.broken and not one.doubted and dtype in one.features
    ]
    return [i for _, i in sorted(right)[:RIGHT]]


def _some(numbers: Sequence[int], count: int) -> Sequence[int]:
    """As many at most, from all over the run."""
    return numbers[:: -(-len(numbers) // count)]


def _where(every: Sequence[str]) -> str:
    """The beginning of a sentence; nothing where it is everywhere."""
    if f"where {Conjunction()}" in every:
        return ""
    said = ", and ".join(every)
    return f"{said[0].upper()}{said[1:]}: "
