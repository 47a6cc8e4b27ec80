"""Subjects that do some things and refuse others, and some that are wrong in one place or two.

All are the reference, but for what their names say, and ask it once about equal problems: many of
the runs are of the same ones.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.problems.features import features
from tests.support.partial_subjects import ekfac

Ask = Callable[[ek.Problem], Mapping[str, Any]]

CONV2D = ct.Abilities(layers=(nn.Conv2d,), shared_weights=False, masks=False)
PADDINGS = {"padding same, even", "padding same, odd"}


class UnsupportedError(Exception):
    """As a library defines one."""


def _convolutions(problem: ek.Problem) -> list[nn.Conv2d]:
    return [m for m in problem.model.modules() if isinstance(m, nn.Conv2d)]


def partial(problem: ek.Problem) -> Mapping[str, Any]:
    """A right EKFAC of Conv2d that refuses four things, each in its own way."""
    for layer in _convolutions(problem):
        if layer.groups > 1:
            raise NotImplementedError(f"groups={layer.groups} is not supported")
        if max(layer.dilation) > 1:
            raise UnsupportedError("dilation", layer.dilation)
        if layer.padding == "same":
            raise ValueError("padding='same': pass numbers")
        assert layer.padding_mode == "zeros", f"padding mode {layer.padding_mode!r}"
    return ekfac(problem)


def refusing(names: Collection[str], ask: Ask = ekfac) -> Ask:
    """It raises on problems with any of these features."""

    def answer(problem: ek.Problem) -> Mapping[str, Any]:
        if {*names} & {*features(problem)}:
            raise NotImplementedError("not today")
        return ask(problem)

    return answer


def wrong(factors: Mapping[tuple[str, ...], float], ask: Ask = ekfac) -> Ask:
    """It is off by a factor on problems with all of some features."""

    def answer(problem: ek.Problem) -> Mapping[str, Any]:
        has, times = {*features(problem)}, 1.0
        for names, factor in factors.items():
            times *= factor if {*names} <= has else 1.0
        found = ask(problem)
        return found if times == 1 else {name: E.scaled(times) for name, E in found.items()}

    return answer


conv2d = ct.Subject("conv2d", partial, abilities=CONV2D)
two_mistakes = ct.Subject("two mistakes", wrong({("dilation",): 2.0, ("mask",): 3.0}))
