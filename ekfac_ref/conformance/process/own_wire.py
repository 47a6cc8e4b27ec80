"""What two processes tell each other about a problem of the user's own, as JSON.

Whatever is not as written here raises KeyError, TypeError or ValueError.
"""

from typing import Any

from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.own_model.laws.own_law import Weighed
from ekfac_ref.conformance.own_model.own_examiner import AskedOnce, JudgedPart, Opened, PartSaid
from ekfac_ref.conformance.process.wire import Plain


def opened_as_plain(opened: Opened) -> Plain:
    """Names of blocks and of their features, and the dtype; or why there are none."""
    features = [list(names) for names in opened.features]
    plain = {"titles": list(opened.titles), "features": features, "dtype": opened.dtype}
    return {**plain, "mistake": opened.mistake, **_trouble(opened.trouble)}


def opened_from(plain: Plain, printed: str) -> Opened:
    """The blocks, out of what ``opened_as_plain`` makes."""
    titles = [_text(title) for title in plain["titles"]]
    features = [tuple(map(_text, names)) for names in plain["features"]]
    if len(titles) != len(features):
        raise ValueError("features of other blocks")
    dtype, mistake = _text(plain["dtype"]), _text(plain["mistake"])
    return Opened(titles, features, dtype, mistake, _trouble_from(plain, printed))


def asked_as_plain(asked: AskedOnce) -> Plain:
    """Lines on what was changed."""
    return {"changes": list(asked.changes), **_trouble(asked.trouble)}


def asked_from(plain: Plain, printed: str) -> AskedOnce:
    """The lines, out of what ``asked_as_plain`` makes."""
    return AskedOnce([_text(line) for line in plain["changes"]], _trouble_from(plain, printed))


def judged_as_plain(judged: JudgedPart) -> Plain:
    """What every law said, as a list of its fields, and what the block looks like."""
    return {
        "judged": [
            [
                *(said.law, said.offered),
                said.weighed and [said.weighed.ratio, said.weighed.notices],
                *(said.broken, said.ratio, said.size, said.refused),
            ]
            for said in judged.said
        ],
        "looks": {name: list(ways) for name, ways in judged.looks.items()},
        **_trouble(judged.trouble),
    }


def judged_from(plain: Plain, printed: str) -> JudgedPart:
    """What laws said, out of what ``judged_as_plain`` makes."""
    said = [
        PartSaid(
            _text(law),
            bool(offered),
            weighed and Weighed(float(weighed[0]), float(weighed[1])),
            _text(broken),
            float(ratio),
            float(size),
            _text(refused),
        )
        for law, offered, weighed, broken, ratio, size, refused in plain["judged"]
    ]
    looks = {_text(name): [_text(way) for way in ways] for name, ways in plain["looks"].items()}
    return JudgedPart(said, _trouble_from(plain, printed), looks)


def _trouble(trouble: Trouble | None) -> Plain:
    return {"trouble": trouble and [trouble.what, trouble.traceback, trouble.blame.value]}


def _trouble_from(plain: Plain, printed: str) -> Trouble | None:
    if not plain["trouble"]:
        return None
    what, traceback, blame = plain["trouble"]
    return Trouble(_text(what), _text(traceback), None, printed, Blame(blame))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text belongs")
    return value
