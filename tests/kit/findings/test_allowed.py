"""What is drawn is what may be drawn, and what may not never is."""

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.problems.features import FEATURES, features
from ekfac_ref.examples import hooks, notebook

ABILITIES = {
    "all": ct.Abilities(),
    "hooks": hooks.abilities,
    "notebook": notebook.abilities,
    "images": ct.Abilities(layers=(nn.Conv2d, nn.ConvTranspose2d), masks=False),
    "words": ct.Abilities(layers=(nn.Embedding,), shared_weights=False, dtypes=(torch.float32,)),
    "no positions": ct.Abilities(positions=False, fishers=(ek.Exact,), sharings=(ek.Reduce,)),
    "one likelihood": ct.Abilities(likelihoods=(ek.Gaussian,)),
}


@pytest.mark.parametrize("name", ABILITIES)
def test_what_is_drawn_may_be(name: str) -> None:
    can = ABILITIES[name]
    drawn = {f for problem in ct.draw_problems(can, 40, 1) for f in features(problem)}
    assert {f for f in drawn if not can.allows(f)} == set()


def test_all_may_be_drawn_for_who_can_do_all() -> None:
    everything = ct.Abilities(dtypes=(torch.float64, torch.float32, torch.bfloat16))
    assert [f for f in FEATURES if not everything.allows(f)] == []


@pytest.mark.parametrize(
    ("name", "never"),
    [
        ("hooks", {"Conv2d", "groups", "reduce", "mask", "tied weight", "padding_idx"}),
        ("images", {"Linear", "Conv1d", "mask", "bfloat16", "padding_idx"}),
        ("words", {"no bias", "float64", "called twice"}),
        ("no positions", {"positions of a Linear, one axis", "outputs at positions", "expand"}),
        ("one likelihood", {"Poisson", "ignored labels", "class axis"}),
    ],
)
def test_what_may_not_is_told(name: str, never: set[str]) -> None:
    assert not any(ABILITIES[name].allows(f) for f in never)


def test_without_positions_there_are_no_tokens() -> None:
    can = ct.Abilities(positions=False)
    for name in ("tokens as samples", "tokens first", "self-attention", "MultiheadAttention"):
        assert ct.Abilities().allows(name)
        assert not can.allows(name)
