"""Which features separate: planted ones are found, and a coincidence is called one."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekfac_ref.conformance.findings.attribution.attribute import attribute
from ekfac_ref.conformance.findings.attribution.conjunction import Conjunction
from ekfac_ref.conformance.findings.attribution.evidence import Attribution
from ekfac_ref.conformance.findings.causes import where

NAMES = tuple("abcdefghij")


def problems(seed: int, count: int, share: float = 0.4) -> list[tuple[str, ...]]:
    draw = random.Random(seed)
    return [tuple(n for n in NAMES if draw.random() < share) for _ in range(count)]


def wheres(found: Attribution) -> set[str]:
    return {str(cause.where) for cause in found.causes}


literals = st.dictionaries(st.sampled_from(NAMES), st.booleans(), min_size=1, max_size=3)


def planted(literal: dict[str, bool]) -> Conjunction:
    present = tuple(n for n in NAMES if literal.get(n) is True)
    return Conjunction(present, tuple(n for n in NAMES if literal.get(n) is False))


@settings(max_examples=60, deadline=None)
@given(literals, st.integers(0, 10**6))
def test_a_planted_conjunction_is_found(literal: dict[str, bool], seed: int) -> None:
    drawn, where = problems(seed, 300), planted(literal)
    wrong = [i for i, features in enumerate(drawn) if where.holds(features)]
    if len(wrong) < 8:
        return
    found = attribute(drawn, wrong)
    assert wheres(found) == {str(where)}
    (cause,) = found.causes
    assert (cause.faulty, cause.meant, cause.others) == (len(wrong), len(wrong), 300 - len(wrong))
    assert cause.sure
    assert (found.unexplained, found.faulty, found.asked) == (0, len(wrong), 300)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(NAMES), min_size=2, max_size=5, unique=True), st.integers(0, 9999))
def test_mistakes_at_once_are_found_one_by_one(names: list[str], seed: int) -> None:
    drawn = problems(seed, 400, 0.2)
    wrong = [i for i, features in enumerate(drawn) if set(names) & set(features)]
    found = attribute(drawn, wrong)
    assert wheres(found) == set(names)
    assert all(cause.sure for cause in found.causes)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999))
def test_a_pair_beside_a_single_one(seed: int) -> None:
    drawn = problems(seed, 400)
    wrong = [i for i, f in enumerate(drawn) if {"a", "b"} <= {*f} or "c" in f]
    assert wheres(attribute(drawn, wrong)) == {"a and b", "c"}


def test_wrong_everywhere() -> None:
    found = attribute(problems(0, 20), range(20))
    assert [(c.where, c.sure) for c in found.causes] == [(Conjunction(), True)]


def test_where_the_mistake_does_not_always_show() -> None:
    """A law that notices it on most of the problems says where alone it can be."""
    drawn, draw = problems(1, 300, 0.3), random.Random(2)
    wrong = [i for i, f in enumerate(drawn) if "a" in f and draw.random() < 0.8]
    (cause,) = attribute(drawn, wrong).causes
    assert str(cause.where) == "a"
    assert cause.faulty == len(wrong) < cause.meant
    assert cause.sure


@pytest.mark.parametrize("seed", range(5))
def test_several_mistakes_that_do_not_always_show(seed: int) -> None:
    """Each most times; what all problems with a fault have says less, and is not told."""
    draw = random.Random(seed)
    drawn = [(*f, "e") if {"a", "b", "c"} & {*f} else f for f in problems(seed, 400, 0.1)]
    wrong = [i for i, f in enumerate(drawn) if {"a", "b", "c"} & {*f} and draw.random() < 0.9]
    drawn += [("e",)] * 200  # most with e are right
    found = attribute(drawn, wrong)
    assert wheres(found) == {"a", "b", "c"}
    assert all(cause.sure and not cause.whole for cause in found.causes)
    assert where(found.causes[0]).startswith("mostly where")


def test_what_one_problem_has_is_no_mistake_of_its_own() -> None:
    drawn: list[tuple[str, ...]] = [(name,) for name in NAMES]
    assert attribute([*drawn, *[()] * 190], range(10)).causes == ()


@pytest.mark.parametrize(("faulty", "among", "sure"), [(5, 14, True), (2, 10, False)])
def test_what_all_have_is_told_where_most_with_it_are_right(
    faulty: int, among: int, sure: bool
) -> None:
    """Two of ten would be a coincidence that some feature or pair easily makes."""
    drawn = [(*f, "m") if i < among else f for i, f in enumerate(problems(3, 180, 0.1))]
    (cause,) = attribute(drawn, range(faulty)).causes
    assert (str(cause.where), cause.faulty, cause.meant) == ("m", faulty, among)
    assert cause.sure is sure


def test_a_few_are_not_shared_out_among_pairs() -> None:
    """Of five faulty problems among ten with a feature, others of it take four here, four there."""
    drawn: list[tuple[str, ...]] = [("m", *f) for f in ("ab", "ab", "ab", "a", "b")]
    drawn += [("m", str(i)) for i in range(5)]
    drawn += [("a",), ("b",), ("a", "b"), *problems(5, 8)] * 10
    (cause,) = attribute(drawn, range(5)).causes
    assert (str(cause.where), cause.faulty, cause.meant) == ("m", 5, 10)


def test_noise_has_no_cause() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        wrong = [i for i in range(200) if draw.random() < 0.3]
        found = attribute(problems(seed + 100, 200), wrong)
        assert found.causes == ()
        assert found.unexplained == len(wrong)


def test_few_exceptions_have_no_cause() -> None:
    """Each of them has some feature that others have, too, and many features have none of them."""
    drawn = problems(1, 200)
    for exceptions in (3, 12):
        found = attribute(drawn, range(exceptions, 200))
        assert found.causes == ()
        assert found.unexplained == 200 - exceptions


def test_one_problem_with_many_features_is_no_proof() -> None:
    drawn = [("a", "b", "c"), ("a",), ("b",), ("c",), ()] + [("d",)] * 3
    (cause,) = attribute(drawn, [0]).causes
    assert not cause.sure


def test_features_that_come_together_are_all_told() -> None:
    drawn = [("a", "b"), ("a", "b"), ("a", "b"), ("c",), ("d",), *problems(3, 0)] + [
        ("c", "d")
    ] * 20
    (cause,) = attribute(drawn, [0, 1, 2]).causes
    assert str(cause.where) == "a"
    assert cause.also == ("b",)


def test_presence_goes_before_absence() -> None:
    drawn = [("a",)] * 10 + [("b",)] * 10  # "a" and "not b" are one
    (cause,) = attribute(drawn, range(10)).causes
    assert str(cause.where) == "a"


@pytest.mark.parametrize(
    ("where", "says"),
    [
        (Conjunction(), "anything"),
        (Conjunction(("groups", "reduce")), "groups and reduce"),
        (Conjunction(("groups",), ("mask",)), "groups and not mask"),
        (Conjunction((), ("no bias",)), "a bias"),
    ],
)
def test_in_words(where: Conjunction, says: str) -> None:
    assert str(where) == says
