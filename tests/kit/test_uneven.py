"""Whoever takes one axis of a convolution for all is noticed in a quick check, under every seed."""

from collections import Counter
from functools import cache

import pytest
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.findings.attribution.attribute import attribute
from ekfac_ref.conformance.laws.law import notices
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.designed import plan
from ekfac_ref.conformance.problems.features import features
from ekfac_ref.conformance.run.profile import PROFILES
from ekfac_ref.conformance.subjects.trial import Trial

OPTIONS = {name: name for name in ("stride", "dilation", "padding")} | {"kernel": "kernel_size"}
AT_LEAST = {nn.Conv2d: 4, nn.ConvTranspose2d: 2, nn.Conv3d: 1, nn.ConvTranspose3d: 1}
EVERYTHING, SQUARE = ct.Abilities(), ct.Abilities(layers=(nn.Conv2d,))


@cache
def drawn(abilities: ct.Abilities, seed: int) -> list[ek.Problem]:
    return ct.draw_problems(abilities, PROFILES["quick"].problems, seed)


@cache
def designed(seed: int) -> list[tuple[tuple[str, ...], ek.Problem]]:
    """(features that it is drawn for, problem), of those for a subject of Conv2d."""
    pairs = zip(plan.in_order(SQUARE, seed), plan.with_one_feature(SQUARE, seed), strict=True)
    return [(some[0].features if some else (), problem) for (_, some), problem in pairs]


def uneven(problem: ek.Problem, option: str, *kinds: type[nn.Module]) -> bool:
    """Whether some layer that is asked about has other numbers on other axes."""
    asked = [m for n, m in problem.model.named_modules() if n in (problem.layers or (n,))]
    given = [getattr(m, option) for m in asked if isinstance(m, kinds)]
    return any(len(set(by_axis)) > 1 for by_axis in given if not isinstance(by_axis, str))


@pytest.mark.parametrize("seed", range(5))
def test_every_option_comes_uneven_in_a_quick_check(seed: int) -> None:
    times: Counter[tuple[type[nn.Module], str]] = Counter()
    for kind in AT_LEAST:
        for option in OPTIONS.values():
            found = [p for p in drawn(EVERYTHING, seed) if uneven(p, option, kind)]
            times[kind, option] += len(found)
    assert {key: n for key, n in times.items() if n < AT_LEAST[key[0]]} == {}


@pytest.mark.parametrize("name", OPTIONS)
def test_who_is_wrong_exactly_there_reads_so(name: str) -> None:
    """Whether it can do everything or Conv2d alone."""
    for abilities in (EVERYTHING, SQUARE):
        for seed in range(2):
            problems = drawn(abilities, seed)
            faulty = [n for n, p in enumerate(problems) if uneven(p, OPTIONS[name], *AT_LEAST)]
            (cause,) = attribute([features(p) for p in problems], faulty).causes
            assert str(cause.where) == f"uneven {name}"


@pytest.mark.parametrize("name", ["stride", "dilation", "padding"])
def test_the_first_axis_for_all_shows_wherever_it_is_drawn_uneven(name: str) -> None:
    """Neither the kernel nor the output has a single place along an axis."""
    of_all = MUTANTS["first-axis-for-all"].subject
    for seed in range(3):
        found = [p for of, p in designed(seed) if of == (f"uneven {name}",)]
        assert len(found) == plan.AT_LEAST
        for problem in found:
            assert 1 not in problem.model.get_submodule("0").kernel_size  # type: ignore[operator]
            assert notices(ct.LAWS["commutes"], Trial(of_all, problem))
