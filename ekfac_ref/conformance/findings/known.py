"""Deviations that are known: laws that are broken, features that are wrong, features refused.

They have to show. One that does not any more is a failure, too: its entry is out of date.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from ekfac_ref.conformance.findings.outcome import Outcome
from ekfac_ref.conformance.laws.catalogue import ASKED_AT_ANY_SIZE, LAWS
from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.errors import ProblemError, no_such

_Reasons = Mapping[str, str]


@dataclass(frozen=True)
class KnownDeviations:
    """Reasons of known deviations, by name.

    Attributes:
        laws: that are broken on some problem.
        features: with which laws are broken. What is broken on problems that have such a feature is
            expected, and every law is judged by the other problems.
        refusals: features that are refused.
    """

    laws: _Reasons = field(default_factory=dict)
    features: _Reasons = field(default_factory=dict)
    refusals: _Reasons = field(default_factory=dict)

    def __post_init__(self) -> None:
        laws = (*LAWS, *ASKED_AT_ANY_SIZE)
        for what, among in (("laws", laws), ("features", FEATURES), ("refusals", FEATURES)):
            reasons = getattr(self, what)
            if not isinstance(reasons, Mapping):
                raise ProblemError(
                    f"known, {what}: a {type(reasons).__name__}; give a dict of name and reason."
                )
            for name, reason in reasons.items():
                if name not in among:
                    raise no_such(f"known, {what}", name, among)
                if not isinstance(reason, str) or not reason.strip():
                    raise ProblemError(
                        f"known, {what}: {name!r} has no reason; write one, as text."
                    )


def known_from(text: str) -> KnownDeviations:
    """Out of JSON: {"laws": {name: reason}, "features": {...}, "refusals": {...}}, each optional.

    Raises:
        ProblemError: it is no such thing, or a name is none.
    """
    tables = [one.name for one in fields(KnownDeviations)]
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ProblemError(f"known: no JSON ({error}); write objects {tables} in one.") from None
    if not isinstance(found, dict):
        raise ProblemError(f"known: a {type(found).__name__}; write objects {tables} in one.")
    for name in found:
        if name not in tables:
            raise no_such("known", name, tables)
    return KnownDeviations(**found)


def as_known(known: KnownDeviations | Mapping[str, str] | None) -> KnownDeviations:
    """As it is; or of a mapping, which is one of laws."""
    return known if isinstance(known, KnownDeviations) else KnownDeviations(known or {})


@dataclass(frozen=True)
class Deviation:
    """A known feature or refusal, and whether it showed.

    Attributes:
        what: "feature" or "refusal".
        name: of the feature.
        reason: as it was declared.
        problems: how many of those with the feature showed it.
        shown: whether one did; None where no problem could have.
    """

    what: str
    name: str
    reason: str
    problems: int
    shown: bool | None

    @property
    def sentence(self) -> str:
        """What came of it, in words."""
        shown = {True: "as known", False: "no longer", None: "not to be seen"}[self.shown]
        verb = "wrong" if self.what == "feature" else "refused"
        return f"{self.name} is {verb} {shown}, on {self.problems} problems: {self.reason}"


def deviations(known: KnownDeviations, outcomes: Sequence[Outcome]) -> list[Deviation]:
    """What came of the known features and refusals."""
    found = []
    for what, reasons in (("feature", known.features), ("refusal", known.refusals)):
        for name, reason in reasons.items():
            having = [one for one in outcomes if name in one.features]
            if what == "feature":
                could = [one for one in having if one.is_answered]
                did = [one for one in could if set(one.broken) - set(known.laws)]
            else:
                could = [one for one in having if one.is_answered or one.refusal]
                did = [one for one in could if one.refusal]
            found.append(Deviation(what, name, reason, len(did), bool(did) if could else None))
    return found
