"""What two processes tell each other, as JSON: texts, numbers, lists and dicts of these.

Nothing is pickled, so that nothing of the subject's comes over. Whatever is not as written here
raises KeyError, TypeError or ValueError.
"""

from collections.abc import Collection
from typing import Any

import torch

from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.common import COMMON
from ekfac_ref.conformance.findings.drawn_problems import DrawnProblems
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.problems.features import FEATURES
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.reports.furthest import Furthest
from ekfac_ref.conformance.run.examiner import Found
from ekfac_ref.conformance.run.raised import cut
from ekfac_ref.conformance.run.tally import Broken, Said
from ekfac_ref.conformance.truth.tolerance import LawBroken

Plain = dict[str, Any]


def broken_as_plain(broken: Broken) -> Plain:
    """A broken law: its problem, what it said, and in which unit."""
    error = broken.law_broken
    return {
        "problem": broken.problem.text,
        "says": str(error),
        "ratio": error.ratio,
        "roundoff": broken.roundoff,
    }


def broken_from(plain: Plain) -> Broken:
    """A broken law, out of what ``broken_as_plain`` makes."""
    error = LawBroken(_text(plain["says"]), float(plain["ratio"]))
    return Broken(Written(_text(plain["problem"])), error, float(plain["roundoff"]))


def found_as_plain(found: Found) -> Plain:
    """All of it but the problem of its trouble and what was printed, which the asker knows."""
    trouble = found.trouble
    return {
        "said": [
            [s.law, s.offered, s.ratios, s.broken and broken_as_plain(s.broken), s.refused]
            for s in found.said
        ],
        "smaller": [broken_as_plain(broken) for broken in found.smaller],
        "blind": list(found.blind),
        "sentence": found.sentence,
        "named": found.named,
        "trouble": trouble and [trouble.what, trouble.traceback, trouble.blame.value],
    }


def found_from(plain: Plain, problem: Written | None, printed: str) -> Found:
    """The inverse of ``found_as_plain``, given what the asker knows."""
    said = [
        Said(
            _text(law),
            bool(offered),
            [float(x) for x in ratios],
            broken and broken_from(broken),
            _text(refused),
        )
        for law, offered, ratios, broken, refused in plain["said"]
    ]
    trouble = None
    if plain["trouble"]:
        what, traceback, blame = plain["trouble"]
        trouble = Trouble(_text(what), _text(traceback), problem, printed, Blame(blame))
    return Found(
        said,
        [broken_from(broken) for broken in plain["smaller"]],
        [_text(law) for law in plain["blind"]],
        _text(plain["sentence"]),
        _text(plain["named"]),
        trouble,
    )


def drawn_as_plain(drawn: DrawnProblems) -> Plain:
    """The problems as texts, and what is special about each."""
    return {
        "problems": [one.text for one in drawn.problems],
        "features": [list(one) for one in drawn.features],
        "mute": [list(one) for one in drawn.mute],
        "digest": drawn.digest,
        "allowed": list(drawn.allowed),
        "declines": list(drawn.declines),
        "only draws": drawn.only_draws,
    }


def drawn_from(plain: Plain) -> DrawnProblems:
    """The problems, out of what ``drawn_as_plain`` makes."""
    problems = [Written(_text(text)) for text in plain["problems"]]
    features, mute = ([_features(names) for names in plain[of]] for of in ("features", "mute"))
    if not len(features) == len(mute) == len(problems):
        raise ValueError("features of other problems")
    digest = cut(_text(plain["digest"]), 12)
    allowed, declines = _features(plain["allowed"]), _features(plain["declines"])
    only = bool(plain["only draws"])
    return DrawnProblems(problems, features, mute, digest, allowed, declines, only_draws=only)


def where_as_plain(where: Conjunction) -> Plain:
    """Features that have to be present, and those that must not."""
    return {"present": list(where.present), "absent": list(where.absent)}


def where_from(plain: Plain) -> Conjunction:
    """The conjunction, out of what ``where_as_plain`` makes."""
    every = {*FEATURES, *COMMON}
    return Conjunction(_features(plain["present"], every), _features(plain["absent"], every))


def _features(names: Any, known: Collection[str] = FEATURES) -> tuple[str, ...]:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no features: {unknown}")
    return tuple(names)


def furthest_as_plain(found: Furthest) -> Plain:
    """A layer's two matrices as lists of rows."""
    matrices = {"expected": found.expected.tolist(), "got": found.got.tolist()}
    return matrices | {"layer": found.layer, "name": found.name, "several": found.one_of_several}


def furthest_from(plain: Plain) -> Furthest:
    """The matrices, out of what ``furthest_as_plain`` makes."""
    expected, got = (torch.tensor(plain[key], dtype=torch.float64) for key in ("expected", "got"))
    if expected.shape != got.shape or expected.dim() != 2:
        raise ValueError("matrices of two shapes")
    layer, name = _text(plain["layer"]), _text(plain["name"])
    return Furthest(layer, name, expected, got, bool(plain["several"]))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text belongs")
    return value
