"""Refused: masks that are no mask, that do not fit a layer, or that leave out what counts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from tests.support.refusals import ENTRIES, FACTORED, Arguments, Cases, regression

everywhere = Cases()
of_no_layer = Cases()
where_positions_matter = Cases()

WITH_POSITIONS = {
    "kfac expand": lambda problem: ek.kfac(replace(problem, sharing=ek.Expand())),
    "kfac reduce": lambda problem: ek.kfac(replace(problem, sharing=ek.Reduce())),
    "ekfac expand": lambda problem: ek.ekfac(replace(problem, sharing=ek.Expand())),
    "ekfac reduce": lambda problem: ek.ekfac(replace(problem, sharing=ek.Reduce())),
}


class SumOfTokens(nn.Module):
    """Leaves out the tokens that are all zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return (self.token(x) * present(x)[..., None]).sum(1)


def present(x: Tensor) -> Tensor:
    return (x != 0).any(-1)


def tokens(mask: Callable[[Tensor], Any], padding: int = 2) -> Arguments:
    """Five sentences of four tokens, the last ones of the first sentence and the third padding."""
    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    x[::2, 4 - padding :] = 0
    return regression(SumOfTokens(), x) | {"mask": mask}


def image(mask: Callable[[Tensor], Any]) -> Arguments:
    """Images of 2 x 3 pixels."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten())
    return regression(model, torch.randn(5, 1, 2, 3), torch.randn(5, 12)) | {"mask": mask}


@everywhere("mask: it is to return booleans [N, *positions]", "convert it with .bool()")
def float_mask() -> Arguments:
    return tokens(lambda x: present(x).float())


@everywhere("mask: it is to return booleans [N, *positions]", "not torch.int64 [3, 4]")
def integer_mask() -> Arguments:
    return tokens(lambda x: present(x).long())


@everywhere("mask: it is to return booleans [N, *positions]", "not list")
def list_as_mask() -> Arguments:
    return tokens(lambda x: present(x).tolist())


@everywhere("mask: it is to return booleans [N, *positions] with N = 3", "not torch.bool [4, 3]")
def samples_last() -> Arguments:
    return tokens(lambda x: present(x).T)


@everywhere("mask: it is to return booleans [N, *positions] with N = 3", "not torch.bool []")
def one_boolean() -> Arguments:
    return tokens(lambda x: present(x).any())


@everywhere("mask: on meta, but the model is on cpu", ".to('cpu')")
def mask_elsewhere() -> Arguments:
    return tokens(lambda x: present(x).to("meta"))


@of_no_layer("layer 'token': its positions have axes [4], but the mask has [3]", "one boolean per")
def too_few_positions() -> Arguments:
    return tokens(lambda x: present(x)[:, 1:])


@of_no_layer("layer 'token': its positions have axes [4], but the mask has []", "one boolean per")
def one_boolean_per_sample() -> Arguments:
    return tokens(lambda x: present(x).any(1))


@of_no_layer(
    "layer 'token': its positions have axes [4], but the mask has [4, 3]", "leave the layer"
)
def one_boolean_per_feature() -> Arguments:
    return tokens(lambda x: x != 0)


@of_no_layer(
    "layer '0': its positions have axes [2, 3], but the mask has [3, 2]", "one boolean per"
)
def transposed_axes() -> Arguments:
    return image(lambda x: torch.ones(len(x), 3, 2, dtype=torch.bool))


@of_no_layer("layer '0': its positions have axes [2, 3], but the mask has [6]", "one boolean per")
def flattened_axes() -> Arguments:
    return image(lambda x: torch.ones(len(x), 6, dtype=torch.bool))


@where_positions_matter("layer 'token': a position that the mask leaves out carries", "correct the")
def masked_position_that_counts() -> Arguments:
    return tokens(lambda x: present(x) & torch.tensor([False, True, True, True]))


@where_positions_matter("layer 'token': a position that the mask leaves out carries", "ignore it")
def mask_upside_down() -> Arguments:
    return tokens(lambda x: ~present(x))


@where_positions_matter("layer 'token': the mask counts none of its positions", "True = counts")
def mask_that_counts_nothing() -> Arguments:
    arguments = tokens(present)
    silent = [(torch.zeros_like(x), y) for x, y in arguments["batches"]]
    return arguments | {"batches": silent}


@of_no_layer("layer '0': the mask leaves out the only position", "call the layer on [N, 1, d]")
def position_or_sample() -> Arguments:
    """[N T, d] with T = 1, or [N, d] of samples: nobody can tell."""
    model = nn.Sequential(nn.Linear(3, 2))
    return regression(model) | {"mask": lambda x: x[:, :1] > 9}


test_what_is_no_mask_is_refused = everywhere.at(ENTRIES)
test_a_mask_that_fits_no_layer_is_refused = of_no_layer.at(FACTORED)


test_a_mask_that_leaves_out_the_wrong_positions_is_refused = where_positions_matter.at(
    WITH_POSITIONS
)


@pytest.mark.parametrize(
    "build", [masked_position_that_counts, mask_that_counts_nothing, too_few_positions]
)
def test_the_fisher_itself_does_not_depend_on_the_mask(build: Callable[[], Arguments]) -> None:
    problem = ek.Problem(**build())
    masked, whole = ek.full_fisher(problem), ek.full_fisher(replace(problem, mask=None))
    assert torch.equal(masked.matrix, whole.matrix)


def test_the_mask_of_such_a_model_works() -> None:
    problem = ek.Problem(**tokens(present))
    for entry in ENTRIES.values():
        assert entry(problem)


class OnFewer(nn.Module):
    """A layer on all positions, and one on all but the last."""

    def __init__(self) -> None:
        super().__init__()
        self.every, self.fewer = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fewer(self.every(x)[:, :-1]).sum(1)


def test_the_layers_that_a_mask_fits_are_named() -> None:
    x = torch.randn(4, 5, 3)
    first_counts = torch.arange(5) < 4
    problem = ek.Problem(
        OnFewer(), [(x, torch.randn(4, 2))], ek.Gaussian(), mask=lambda x: first_counts.expand(4, 5)
    )
    with pytest.raises(ek.ProblemError, match=r"'fewer': .* Problem\(layers=\('every',\)\)"):
        ek.kfac(problem)
    assert {*ek.kfac(replace(problem, layers=("every",)))} == {"every"}
