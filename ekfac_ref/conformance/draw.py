"""The problems of one run: drawn by Hypothesis over what a subject says that it can do."""

from dataclasses import replace

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ekfac_ref.conformance import strategies
from ekfac_ref.conformance.strategies import Drawn, Family
from ekfac_ref.conformance.subject import Abilities
from ekfac_ref.errors import ProblemError
from ekfac_ref.layers import find_layers
from ekfac_ref.problem import Problem

QUIET = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@st.composite
def questions(draw: strategies.Draw, abilities: Abilities) -> Problem:
    """A problem that the subject has said it can answer."""
    drawn: Drawn = draw(strategies.problems(_families(abilities)).filter(_within(abilities)))
    fisher = draw(st.sampled_from(abilities.fishers))()
    sharing = draw(st.sampled_from(abilities.sharings))()
    problem = drawn.problem(fisher, sharing)
    modules = dict(problem.model.named_modules())
    mine = [
        layer.name
        for layer in find_layers(problem.model)
        if isinstance(modules[layer.name], abilities.layers)
    ]
    return (
        problem
        if len(mine) == len(find_layers(problem.model))
        else replace(problem, layers=tuple(mine))
    )


def draw_problems(abilities: Abilities, count: int, seed_: int) -> list[Problem]:
    """``count`` of them, the same ones for the same seed."""
    found: list[Problem] = []

    @settings(QUIET, max_examples=count, phases=[Phase.generate])
    @given(questions(abilities))
    def collect(problem: Problem) -> None:
        found.append(problem)

    seed(seed_)(collect)()
    return found


_KINDS: dict[Family, set[str]] = {
    strategies._convolutions: {"Conv1d", "Conv2d", "Conv3d"},
    strategies._transposed: {"ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"},
    strategies._pairs: {"Bilinear"},
    strategies._words: {"Embedding"},
}


def _families(abilities: Abilities) -> tuple[Family, ...]:
    """Those with at least one layer to ask about besides their Linear ones, or nothing else."""
    names = {kind.__name__ for kind in abilities.layers}
    kept = tuple(
        family
        for family in strategies.FAMILIES
        if (abilities.masks or family is not strategies._masked_tokens)
        and _KINDS.get(family, names) & names
    )
    if not kept:
        raise ProblemError("abilities: no layer is named; nothing can be asked.")
    return kept


def _within(abilities: Abilities):  # type: ignore[no-untyped-def]
    def supported(drawn: Drawn) -> bool:
        layers = {m for m in drawn.model.modules() if next(m.parameters(False), None) is not None}
        return (
            type(drawn.likelihood) in abilities.likelihoods
            and next(drawn.model.parameters()).dtype in abilities.dtypes
            and (abilities.shared_weights or not drawn.corners & {"called twice", "tied"})
            and any(isinstance(m, abilities.layers) for m in layers)
        )

    return supported
