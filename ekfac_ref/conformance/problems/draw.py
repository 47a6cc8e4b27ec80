"""The problems of one run: drawn by a seed, over what a subject says that it can do."""

from dataclasses import replace
from itertools import islice, zip_longest

from hypothesis import HealthCheck, reject, settings
from hypothesis import strategies as st
from torch import nn

from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.choices import Draw, DrawInteger, by_hypothesis, by_seed
from ekfac_ref.conformance.problems.designed.batching import dropping
from ekfac_ref.conformance.problems.designed.plan import (
    with_one_feature,
    with_two_features,
)
from ekfac_ref.conformance.problems.families import rows
from ekfac_ref.conformance.problems.families.catalogue import (
    FAMILIES,
    KINDS,
    OF_POSITIONS,
    Family,
)
from ekfac_ref.conformance.problems.kinks import at_a_kink
from ekfac_ref.conformance.problems.strategies import Drawn, network_with_data
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.layers import find_layers
from ekfac_ref.question.problem import Problem

TRIES = 200  # for a network that the subject can do, before a family counts as having none
QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@st.composite
def problems_for(draw: DrawInteger, abilities: Abilities) -> Problem:
    """For Hypothesis: a problem that a subject with these abilities must answer."""
    problem = _problem_within(by_hypothesis(draw), abilities, families_for(abilities))
    return problem if problem is not None else reject()


def _problem_within(
    draw: Draw, abilities: Abilities, families: tuple[Family, ...]
) -> Problem | None:
    """A problem of these families; None if the subject need not, or cannot, answer it."""
    network = network_with_data(draw, families, dtypes=abilities.dtypes)
    if not _is_within(abilities, network):
        return None
    if not abilities.bias:
        _drop_biases(network.model)
    fisher, sharing = draw(abilities.fishers)(), draw(abilities.sharings)()
    problem = network.problem(fisher, sharing)
    modules = dict(problem.model.named_modules())
    names = [layer.name for layer in find_layers(problem.model)]
    mine = [name for name in names if isinstance(modules[name], abilities.layers)]
    if at_a_kink(problem):
        return None
    return problem if mine == names else replace(problem, layers=tuple(mine))


def draw_problems(abilities: Abilities, count: int, seed: int) -> list[Problem]:
    """``count`` problems that a subject with these abilities must answer.

    First those with one thing special about them at a time (``designed/plan.py``), as far as the
    count goes; of what is left, two fifths have several such things, and the others are mixtures.

    They depend on the seed, the abilities and the version of the kit alone: not on what else is
    imported, nor on the versions of the libraries; on the processor, only in the rounding of the
    few numbers that take arithmetic (``digest`` is of no digit that this reaches).
    """
    designed = list(islice(with_one_feature(abilities, seed), count))
    left = count - len(designed)
    two = list(islice(with_two_features(abilities, seed), left * 2 // 5))
    return [*designed, *two, *mixtures(abilities, left - len(two), seed)]


def mixtures(abilities: Abilities, count: int, seed: int) -> list[Problem]:
    """``count`` problems with many things special about them; families of networks take turns."""
    families = families_for(abilities)
    each = -(-count // len(families))
    by_family = [of_one_family(abilities, family, each, seed) for family in families]
    in_turn = [p for turn in zip_longest(*by_family) for p in turn if p is not None]
    return in_turn[:count]


def of_one_family(abilities: Abilities, family: Family, count: int, seed: int) -> list[Problem]:
    """Up to ``count`` problems with networks of one family, Fishers and sharings in turn.

    Fewer, or none, where the family has nothing that the subject can do.
    """
    found: list[Problem] = []
    for number in range(count):
        # Families do not share a seed: they would share likelihoods and data.
        draw, can = by_seed(f"{family.__name__} {seed} {number}"), abilities.in_turn(number)
        tries = (_problem_within(draw, can, (family,)) for _ in range(TRIES))
        problem = next((one for one in tries if one is not None), None)
        if problem is None:
            break
        # Without a draw, so that the others stay what they are.
        found.append(dropping(problem) if number % 4 == 3 else problem)
    return found


def _drop_biases(model: nn.Module) -> None:
    """Rather than draw until there are none: heads have one nearly always."""
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            module.register_parameter("bias", None)


def families_for(abilities: Abilities) -> tuple[Family, ...]:
    """The families with the layers that they are there for among the subject's."""
    names = {kind.__name__ for kind in abilities.layers}
    left_out: set[Family] = {rows.masked_tokens} if not abilities.masks else set()
    left_out |= set() if abilities.positions else set(OF_POSITIONS)
    kept = tuple(
        family
        for family in FAMILIES
        if family not in left_out and KINDS.get(family, {"Linear"}) & names
    )
    if not kept:
        raise ProblemError(
            "abilities: no network has layers of these kinds and what else is declared; nothing "
            "can be asked."
        )
    return kept


def _is_within(abilities: Abilities, drawn: Drawn) -> bool:
    layers = {m for m in drawn.model.modules() if next(m.parameters(False), None) is not None}
    return (
        type(drawn.likelihood) in abilities.likelihoods
        and (abilities.shared_weights or not drawn.corners & {"called twice", "tied"})
        and (abilities.positions or "T > 1" not in drawn.corners)
        and any(isinstance(m, abilities.layers) for m in layers)
    )
