"""How much has to be answered for a verdict."""

from collections.abc import Collection, Sequence

from ekfac_ref.conformance.findings.outcome import Outcome
from ekfac_ref.conformance.problems.features import FEATURES

ANSWERED = 20  # problems, at least
DECLARED = tuple(name for name, f in FEATURES.items() if [k.__name__ for k in f.kinds] == [name])


def too_few(outcomes: Sequence[Outcome], declined: Collection[str]) -> str:
    """What is missing for a verdict, or "".

    ANSWERED problems have to be answered, or, where fewer are drawn, all but those that were
    refused and have a feature that is declined; and the plain case of every kind of layer that was
    drawn and is not declined itself: one of those problems with it that have fewest features.

    Args:
        outcomes: of all problems that were drawn.
        declined: names of features that are declared, or known, to be refused.
    """
    answered = [one for one in outcomes if one.is_answered]
    declared = tuple(declined)
    excused = sum(bool(one.refusal) and one.has_any(declared) for one in outcomes)
    needed = ANSWERED if len(outcomes) >= ANSWERED else max(1, len(outcomes) - excused)
    if len(answered) < needed:
        return f"{len(answered)} of {len(outcomes)} problems were answered, and it takes {needed}"
    kinds = [kind for kind in DECLARED if kind not in declared and not _is_told(kind, outcomes)]
    return f"no plain problem with {' or '.join(kinds)} was answered" if kinds else ""


def _is_told(kind: str, outcomes: Sequence[Outcome]) -> bool:
    """Whether a problem that is as plain as any with this kind of layer was answered, if any is."""
    having = [one for one in outcomes if kind in one.features]
    fewest = min((len(one.features) for one in having), default=0)
    plain = [one for one in having if len(one.features) == fewest]
    return not plain or any(one.is_answered for one in plain)
