"""Which designed problems are drawn, and in which order: plain cases, one feature each, pairs."""

from collections.abc import Iterator, Sequence
from itertools import chain, count, zip_longest

from torch import nn

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.choices import Draw, by_seed
from ekfac_ref.conformance.problems.designed.design import plain_design
from ekfac_ref.conformance.problems.designed.problem import designed_problem
from ekfac_ref.conformance.problems.designed.variation import EVERY, Variation
from ekfac_ref.conformance.problems.designed.variations import OF_TWO, VARIATIONS
from ekfac_ref.conformance.problems.designed.wirings import alone
from ekfac_ref.conformance.problems.features import FEATURES, features
from ekfac_ref.conformance.problems.kinks import at_a_kink
from ekfac_ref.question.problem import Problem

AT_LEAST = 2  # so often a feature is drawn, at the least
PAIR_TRIES = 200  # for two features that go together, before there counts as being no pair
KINK_TRIES = 20  # for numbers that put no ReLU at its kink
_Kind = type[nn.Module]
Chosen = tuple[_Kind, list[Variation]]  # a kind of layer, and what is not plain about it
# Two at once that come before others.
FIRST_PAIRS = (
    *(("outputs at positions", "Gaussian"), ("outputs at positions", "Bernoulli")),
    *(("class axis", "ignored labels"), ("mask", "several batches"), ("mask", "DataLoader")),
)


def declared_kinds(abilities: Abilities) -> tuple[_Kind, ...]:
    """The kinds of layers that a subject says it can do."""
    return tuple(kind for kind in EVERY if issubclass(kind, abilities.layers))


def in_order(abilities: Abilities, seed: int) -> list[Chosen]:
    """Plain cases of all kinds of layers, then one feature more than those at a time.

    A feature of a kind of layer comes with every kind that can have it, and at least AT_LEAST
    times; one of the question comes as often, with other kinds under other seeds. All features come
    once before any comes again.
    """
    of_features: list[list[Chosen]] = []
    for number, (name, able) in enumerate(_able(abilities).items()):
        times = max(AT_LEAST, len(able) if FEATURES[name].kinds else 0)
        of_features.append([able[(seed + number + time) % len(able)] for time in range(times)])
    plain: list[Chosen] = [(kind, []) for kind in declared_kinds(abilities)]
    return [*plain, *(one for one in chain(*zip_longest(*of_features)) if one is not None)]


def with_one_feature(abilities: Abilities, seed: int) -> Iterator[Problem]:
    """The problems of ``in_order``, their sizes and numbers by the seed; drawn as they are asked
    for, each by a draw of its own.
    """
    for number, chosen in enumerate(in_order(abilities, seed)):
        yield _problem(by_seed(f"designed {seed} {number}"), abilities, *chosen)


def with_two_features(abilities: Abilities, seed: int) -> Iterator[Problem]:
    """Problems with two features or more beyond the plain case; no end, if there are any.

    The first have Fishers and sharings in turn: alone, these come with few kinds of layers.
    """
    for number, variation in enumerate(OF_TWO):
        kinds = [kind for kind in variation.kinds if kind in declared_kinds(abilities)]
        if kinds and variation.needs(abilities):
            draw = by_seed(f"of two {seed} {number}")
            yield _problem(draw, abilities.in_turn(number), draw(kinds), [variation])
    able = _able(abilities)
    every = [one for of_feature in able.values() for one in of_feature]
    for number, (one, other) in enumerate(FIRST_PAIRS):
        draw = by_seed(f"first pairs {seed} {number}")
        first = _pair(draw, abilities.in_turn(number), able.get(one, []), able.get(other, []))
        if first is not None:
            yield first
    for number in count():
        pair = _pair(by_seed(f"pairs {seed} {number}"), abilities, every, every)
        if pair is None:
            return
        yield pair


def _able(abilities: Abilities) -> dict[str, list[Chosen]]:
    """{feature: the kinds that it can be drawn with, and how}, of those beyond the plain case."""
    kinds = declared_kinds(abilities)
    found: dict[str, list[Chosen]] = {}
    for variation in VARIATIONS:
        for kind in variation.kinds if variation.needs(abilities) else ():
            plain = plain_design(kind, abilities, alone)
            if kind in kinds and variation.of(plain) != plain:
                found.setdefault(variation.features[0], []).append((kind, [variation]))
    return found


def _pair(
    draw: Draw, abilities: Abilities, some: Sequence[Chosen], others: Sequence[Chosen]
) -> Problem | None:
    """A problem with a feature of some and one of others; None if no two go together."""
    for _ in range(PAIR_TRIES if some and others else 0):
        (kind, [one]), (other_kind, [other]) = draw(some), draw(others)
        if kind is other_kind and one.goes_with(other):
            problem = _problem(draw, abilities, kind, [one, other])
            if {*one.features, *other.features} <= set(features(problem)):
                return problem
    return None


def _problem(
    draw: Draw, abilities: Abilities, kind: _Kind, variations: Sequence[Variation]
) -> Problem:
    design = plain_design(kind, abilities, alone)
    for variation in variations:
        design = variation.of(design)
    last = designed_problem(design, draw)
    drawn = (designed_problem(design, draw)() for _ in range(KINK_TRIES))
    return next((one for one in drawn if not at_a_kink(one)), None) or last()
