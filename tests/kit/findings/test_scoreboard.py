"""Which feature is wrong, and by how much; who only came along is not accused."""

from dataclasses import replace

import pytest

from ekfac_ref.conformance.findings.board import Score, Standing, scoreboard
from ekfac_ref.conformance.findings.causes import Cause, causes, refusals
from ekfac_ref.conformance.findings.common import COMMON
from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.outcome import Off, Outcome
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Law
from ekfac_ref.conformance.problems.features import FEATURES

ALL = tuple(LAWS.values())
NO = "it raised ValueError: no"


def right(*features: str, laws: tuple[str, ...] = ("trace", "solve 1", "nan", "kfac")) -> Outcome:
    return Outcome(features, is_answered=True, held=frozenset(laws))


def wrong(*features: str, laws: tuple[str, ...] = ("trace",), off: Off | None = None) -> Outcome:
    one = right(*features)
    broken = dict.fromkeys(laws, off or Off(1e9, 0.5))
    return replace(one, broken=broken, held=one.held - {*laws})


def refused(*features: str, says: str = NO) -> Outcome:
    return Outcome(features, refusal=says)


def board(outcomes: list[Outcome], **known: dict[str, str]) -> dict[str, Score]:
    found = causes(outcomes, ALL)
    deviations = KnownDeviations(**known)
    rows = scoreboard(outcomes, ALL, found, refusals(outcomes), deviations, ("mask",))
    assert [row.name for row in sorted(rows, key=lambda row: [*FEATURES].index(row.name))] == [
        *FEATURES
    ]
    order = [list(Standing).index(row.standing) for row in rows]
    assert order == sorted(order)
    return {row.name: row for row in rows}


def standings(rows: dict[str, Score]) -> dict[str, str]:
    drawn = [row for row in rows.values() if row.standing is not Standing.NOT_DRAWN]
    return {row.name: row.standing.value for row in drawn}


PLAIN = [right("Conv2d"), right("Conv2d", "float32"), right("Linear"), right("Linear", "reduce")]


def test_a_right_answer_is_no_witness_for_what_no_gradient_comes_to() -> None:
    """A mistake at positions is where they are, and not where they are but for a mask, say."""
    nothing = replace(right("Linear", "mask", "stride"), mute=("stride",))
    outcomes = [*PLAIN * 3, nothing, wrong("Linear", "stride"), wrong("Conv2d", "stride")]
    (cause,) = causes(outcomes, ALL)
    assert "exactly where stride: 2 of 2 such problems" in cause.sentence
    assert board([*outcomes, refused("Linear", "stride")])["stride"].standing is Standing.WRONG
    assert board([*PLAIN, nothing])["stride"].standing is Standing.IN_DOUBT
    assert board([*PLAIN, nothing])["mask"].standing is Standing.EXACT


def test_one_is_wrong_and_what_came_with_it_is_not() -> None:
    outcomes = [
        *PLAIN * 3,
        wrong("Conv2d", "groups", "float32", off=Off(1e3, 0.1)),
        wrong("Conv2d", "groups", "reduce", off=Off(1e5, 0.01)),
        wrong("Conv2d", "groups", "depthwise"),
    ]
    rows = board(outcomes)
    assert standings(rows) == {
        "groups": "wrong",
        "depthwise": "in doubt",  # no problem tells it from groups
        "Conv2d": "exact",
        "Linear": "exact",
        "float32": "exact",
        "reduce": "exact",
    }
    groups = rows["groups"]
    assert (groups.drawn, groups.held, groups.broken, groups.refused) == (3, 0, 3, 0)
    assert groups.worst == Off(1e9, 0.5)
    assert rows["float32"].worst == Off(1e3, 0.1)
    assert rows["Linear"].worst is None


def test_a_pair_is_wrong_and_neither_alone() -> None:
    alone = [right("groups"), right("reduce"), right("Linear")] * 6
    rows = board([*alone, *[wrong("groups", "reduce")] * 6])
    assert standings(rows) == {"groups": "wrong", "reduce": "wrong", "Linear": "exact"}
    assert rows["groups"].beside == rows["reduce"].beside == "groups and reduce"
    single = board([*alone, *[wrong("groups", "reduce")] * 6, *[wrong("mask")] * 3])
    assert single["mask"].beside == ""


def test_wrong_everywhere_is_wrong_for_all() -> None:
    rows = board([wrong("Linear"), wrong("Conv2d")] * 5)
    assert standings(rows) == {"Linear": "wrong", "Conv2d": "wrong"}


def test_manners_that_are_bad_everywhere_are_no_matter_of_features() -> None:
    everywhere = [wrong("Linear", laws=("nan",)), wrong("Conv2d", laws=("nan",))] * 5
    assert standings(board(everywhere)) == {"Linear": "exact", "Conv2d": "exact"}
    somewhere = [right("Linear"), wrong("Conv2d", laws=("nan",))] * 5
    assert standings(board(somewhere)) == {"Linear": "exact", "Conv2d": "wrong"}


def test_refused_declined_and_known() -> None:
    outcomes = [
        *PLAIN * 3,
        *[refused("Conv2d", "groups", "Poisson")] * 3,
        *[refused("Linear", "mask", says="no masks")] * 3,
        *[wrong("Embedding")] * 3,
    ]
    rows = board(outcomes, features={"Embedding": "later"})
    found = standings(rows)
    assert (found["groups"], found["mask"], found["Embedding"]) == ("refuses", "refuses", "wrong")
    assert (rows["mask"].known, rows["Embedding"].known) == ("declined", "later")
    # Poisson came with groups each time: whichever it is, all of it was refused.
    assert rows["Poisson"].standing is Standing.NOT_ANSWERED
    assert found["Conv2d"] == found["Linear"] == "exact"


def test_a_known_law_does_not_count() -> None:
    rows = board([wrong("Linear"), wrong("Conv2d")] * 5, laws={"trace": "a sum"})
    assert set(standings(rows).values()) == {"exact"}


def test_what_nearly_all_unexplained_have_is_not_exact() -> None:
    """One right problem is no proof beside so many that are wrong for an unknown reason."""
    outcomes = [right("Linear", "reduce"), wrong("Linear", "reduce")] * 10
    rows = board([*outcomes, right("Conv2d"), wrong("Linear"), right("Linear", "mask")])
    assert [rows[n].standing.value for n in ("Linear", "reduce")] == ["in doubt"] * 2
    assert rows["Conv2d"].standing is rows["mask"].standing is Standing.EXACT
    explained = board([*PLAIN * 9, *[wrong("Linear", "groups")] * 4])
    assert standings(explained)["Linear"] == "exact"


def test_what_is_mostly_answered_is_not_refused() -> None:
    alone = [right("groups"), right("reduce"), right("Linear")] * 6
    outcomes = [*alone, *[refused("groups", "reduce")] * 5]
    assert refusals(outcomes)[0].features == {"groups", "reduce"}
    assert set(standings(board(outcomes)).values()) == {"exact"}
    assert board(outcomes, refusals={"reduce": "later"})["reduce"].standing is Standing.REFUSES


def test_doubt_is_neither() -> None:
    doubted = replace(right("Conv2d"), held=frozenset(), doubted=frozenset({"trace"}))
    assert standings(board([right("Linear"), doubted]))["Conv2d"] == "in doubt"


def found(outcomes: list[Outcome], laws: tuple[Law, ...] = ALL) -> list[Cause]:
    return causes(outcomes, laws)


def test_one_cause_has_all_its_laws() -> None:
    """Some notice it on fewer problems, some are asked of fewer."""
    outcomes = [
        *PLAIN * 3,
        *[wrong("groups", laws=("trace", "commutes", "symmetry"))] * 2,
        *[wrong("groups", laws=("commutes", "eigenvalues", "kfac"))] * 3,
    ]
    (cause,) = found(outcomes)
    assert cause.laws[:2] == ("commutes", "eigenvalues")
    assert {*cause.laws} == {"trace", "commutes", "symmetry", "eigenvalues", "kfac"}
    assert cause.problems == (12, 13, 14, 15, 16)
    assert cause.sentence == "Wrong exactly where groups: 5 of 5 such problems, 0 of 12 others."


def test_two_mistakes_are_two_causes() -> None:
    outcomes = [*PLAIN * 5, *[wrong("mask")] * 4, *[wrong("groups")] * 3]
    assert [cause.sentence for cause in found(outcomes)] == [
        "Wrong exactly where mask: 4 of 4 such problems, 0 of 20 others.",
        "Wrong exactly where groups: 3 of 3 such problems, 0 of 20 others.",
    ]


def test_what_solves_is_another_matter_than_what_is_solved() -> None:
    """A solve that is wrong everywhere does not hide where E is."""
    outcomes = [
        *[wrong("Linear", laws=("solve 1",))] * 10,
        *[wrong("groups", laws=("solve 1", "trace"))] * 3,
    ]
    assert [(cause.sentence.split(":")[0], cause.laws) for cause in found(outcomes)] == [
        ("Wrong on every problem (13).", ("solve 1",)),
        ("Wrong exactly where groups", ("trace",)),
    ]


def test_nothing_in_common() -> None:
    outcomes = [right("Linear", "reduce"), wrong("Linear", "reduce")] * 10
    (cause,) = found(outcomes)
    assert cause.attributed is None
    assert cause.sentence == (
        "Wrong on 10 of 20 problems, which have no features in common that the others lack."
    )


def test_a_doubt_is_no_witness() -> None:
    doubted = replace(right("groups"), doubted=frozenset({"trace"}))
    outcomes = [*PLAIN * 3, *[wrong("groups")] * 3, doubted]
    assert found(outcomes)[0].sentence.startswith("Wrong exactly where groups: 3 of 3")


def test_refusals_by_what_is_raised() -> None:
    """A problem with both features is refused for one, and no witness against the other."""
    outcomes = [
        *[right("Conv2d"), right("Conv2d", "stride")] * 6,
        *[refused("Conv2d", "groups", says="groups=2 (lib.py, line 1)")] * 2,
        *[refused("Conv2d", "groups", "dilation", says="groups=3 (lib.py, line 1)")] * 2,
        *[refused("Conv2d", "dilation", says="no 'dilation' (lib.py, line 2)")] * 3,
    ]
    assert [(one.says, one.features, len(one.problems)) for one in refusals(outcomes)] == [
        ("groups=2 (lib.py, line 1)", {"groups"}, 4),
        ("no 'dilation' (lib.py, line 2)", {"dilation"}, 3),
    ]


def test_texts_that_are_all_different_are_one_by_the_line() -> None:
    says = [f"it raised ValueError: layer {c}{c} is no layer (lib.py, line 7)" for c in "abcdefghi"]
    outcomes = [right("Linear")] * 9 + [refused("Linear", "mask", says=text) for text in says]
    (refusal,) = refusals(outcomes)
    assert (refusal.features, len(refusal.problems), refusal.says) == ({"mask"}, 9, says[0])
    assert len(refusals(outcomes[:-1])) == 8


@pytest.mark.parametrize("features", [("groups",), ("groups", "dilation", "padding mode", "mask")])
def test_one_text_for_several_features(features: tuple[str, ...]) -> None:
    outcomes = [right("Conv2d"), right("Linear")] * 8
    outcomes += [refused("Conv2d", name) for name in features for _ in range(3)]
    (refusal,) = refusals(outcomes)
    assert refusal.features == {*features}
    assert refusal.sentence.startswith(f"Refuses {3 * len(features)} of {len(outcomes)} problems, ")


def test_what_several_features_have_in_common_is_one_cause() -> None:
    kinds = ("positions of a convolution", "positions of an Embedding", "called twice")
    outcomes = [*PLAIN * 3, *[wrong("Linear", kind) for kind in kinds * 2]]
    (cause,) = causes(outcomes, ALL)
    assert cause.sentence == (
        "Wrong exactly where several positions: 6 of 6 such problems, 0 of 12 others."
    )
    told = standings(board(outcomes))
    assert {told[kind] for kind in kinds} == {"wrong"}
    assert told["Linear"] == told["Conv2d"] == "exact"


def test_the_common_name_is_not_told_beside_a_features_own() -> None:
    outcomes = [*PLAIN[2:] * 9, *[wrong("Conv2d", "positions of a convolution")] * 4]
    (cause,) = causes(outcomes, ALL)
    assert cause.attributed
    assert str(cause.attributed.where) == "Conv2d"
    assert cause.attributed.also == ("positions of a convolution",)


def test_what_is_common_is_common_to_features() -> None:
    for name, some in COMMON.items():
        assert name not in FEATURES
        assert some <= {*FEATURES}
        assert len(some) > 1
