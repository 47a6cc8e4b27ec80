"""What a trial on a model of one's own says of a mistake beside the laws that it breaks."""

from typing import Any

import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct

MANY = "several positions"


def images() -> ek.Problem:
    """Convolutions, at several positions each, and a head at one."""
    torch.manual_seed(0)
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    convolutions = [nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 5, 2, stride=2)]
    model = nn.Sequential(*convolutions, *pooled, nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    x, y = torch.randn(9, 3, 7, 7).double(), torch.randint(3, (9,))
    return ek.Problem(
        model.double(), [(x[:5], y[:5]), (x[5:], y[5:])], ek.Categorical(), ek.Empirical()
    )


def test_positions_are_told_beside_the_kind_of_layer_that_has_them() -> None:
    """A scale of 1/T looks like a mistake in convolutions, and is none."""

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem)
        return {name: E.scaled(0.9) if name in ("0", "2") else E for name, E in blocks.items()}

    (sentence,) = ct.check_on(wrong, images(), laws=["spectrum"]).sentences
    assert sentence.startswith(f"Wrong exactly where Conv2d (or {MANY}, which came with it)")


def test_who_is_broken_in_manners_alone_is_told_that_numbers_are_right() -> None:
    def draws(problem: ek.Problem) -> dict[str, Any]:
        torch.rand(1)
        return ek.ekfac(problem)

    report = ct.check_on(draws, images(), laws=["trace", "leaves alone"])
    assert report.exit_code == 1
    assert report.summary == (
        "It does not conform (broken: leaves alone); of the numbers that it answers none was found "
        "wrong."
    )
    alone = ct.check_on(draws, images(), laws=["leaves alone"])
    assert alone.summary == "It does not conform (broken: leaves alone)."
