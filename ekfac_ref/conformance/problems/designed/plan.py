"""Which designed problems are drawn, and in which order: plain cases, one feature each, pairs."""

from collections.abc import Iterator, Sequence
from itertools import chain, count, zip_longest

from torch import nn

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.choices import Draw, by_seed
from ekfac_ref.conformance.problems.designed.design import plain_design
from ekfac_ref.conformance.problems.designed.problem import designed_problem
from ekfac_ref.conformance.problems.designed.variations import (
    EVERY,
    OF_TWO,
    VARIATIONS,
    Variation,
)
from ekfac_ref.conformance.problems.designed.wirings import alone
from ekfac_ref.conformance.problems.features import FEATURES, features
from ekfac_ref.question.problem import Problem

TIMES = 2  # so often a feature is drawn, at the least
PAIR_TRIES = 200  # for two features that go together, before there counts as being no pair
Kind = type[nn.Module]
_Chosen = tuple[Kind, list[Variation]]
# Two at once that come before others.
_FIRST_PAIRS = (
    *(("outputs at positions", "Gaussian"), ("outputs at positions", "Bernoulli")),
    *(("class axis", "ignored labels"), ("mask", "several batches")),
)


def declared_kinds(abilities: Abilities) -> tuple[Kind, ...]:
    """The kinds of layers that a subject says it can do."""
    return tuple(kind for kind in EVERY if issubclass(kind, abilities.layers))


def with_one_feature(abilities: Abilities, seed: int) -> list[Problem]:
    """Plain cases of all kinds of layers, then problems with one feature more than those.

    A feature of a kind of layer comes with every kind that can have it, and at least TIMES; one of
    the question or the wiring comes TIMES, with other kinds under other seeds. All features come
    once before any comes again.
    """
    kinds = declared_kinds(abilities)
    of_features = []
    for number, (name, able) in enumerate(_able(abilities).items()):
        turns = max(TIMES, len(able) if FEATURES[name].kinds else 0)
        of_features.append([able[(seed + number + turn) % len(able)] for turn in range(turns)])
    plain: list[_Chosen] = [(kind, []) for kind in kinds]
    rounds = [(one[0], [one[1]]) for one in chain(*zip_longest(*of_features)) if one is not None]
    return [
        _problem(by_seed(f"designed {seed} {number}"), abilities, kind, variations)
        for number, (kind, variations) in enumerate([*plain, *rounds])
    ]


def with_two_features(abilities: Abilities, seed: int) -> Iterator[Problem]:
    """Problems with two features more than the plain case; no end, if there are any."""
    for number, variation in enumerate(OF_TWO):
        kinds = [kind for kind in variation.kinds if kind in declared_kinds(abilities)]
        if kinds and variation.needs(abilities):
            draw = by_seed(f"of two {seed} {number}")
            yield _problem(draw, abilities, draw(kinds), [variation])
    able = _able(abilities)
    for number, names in enumerate(_FIRST_PAIRS):
        pair = _pair(
            by_seed(f"first pairs {seed} {number}"), abilities, [able.get(n, []) for n in names]
        )
        if pair is not None:
            yield pair
    every = [one for of_feature in able.values() for one in of_feature]
    for number in count():
        pair = _pair(by_seed(f"pairs {seed} {number}"), abilities, [every, every])
        if pair is None:
            return
        yield pair


def any_design(draw: Draw, abilities: Abilities) -> Problem:
    """A problem with one feature or none: for who looks for a small one."""
    chosen: list[_Chosen] = [(kind, []) for kind in declared_kinds(abilities)]
    for of_feature in _able(abilities).values():
        chosen += [(kind, [variation]) for kind, variation in of_feature]
    kind, variations = draw(chosen)
    return _problem(draw, abilities, kind, variations)


def _able(abilities: Abilities) -> dict[str, list[tuple[Kind, Variation]]]:
    """{feature: the kinds that it can be drawn with, and how}, of those beyond the plain case."""
    kinds = declared_kinds(abilities)
    found: dict[str, list[tuple[Kind, Variation]]] = {}
    for variation in VARIATIONS:
        if not variation.needs(abilities):
            continue
        for kind in variation.kinds:
            plain = plain_design(kind, abilities, alone)
            if kind in kinds and variation.of(plain) != plain:
                found.setdefault(variation.features[0], []).append((kind, variation))
    return found


def _pair(
    draw: Draw, abilities: Abilities, options: Sequence[list[tuple[Kind, Variation]]]
) -> Problem | None:
    """A problem with a feature of each of the two lists; None if no two go together."""
    if not all(options):
        return None
    for _ in range(PAIR_TRIES):
        (kind, one), (other_kind, other) = draw(options[0]), draw(options[1])
        if kind is other_kind and one.goes_with(other):
            problem = _problem(draw, abilities, kind, [one, other])
            if {*one.features, *other.features} <= set(features(problem)):
                return problem
    return None


def _problem(
    draw: Draw, abilities: Abilities, kind: Kind, variations: Sequence[Variation]
) -> Problem:
    design = plain_design(kind, abilities, alone)
    for variation in variations:
        design = variation.of(design)
    return designed_problem(design, draw)
