"""When KFAC is the Fisher, when EKFAC alone is, and when neither is (docs/laws.md)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ekfac_ref as ek
from ekfac_ref.conformance.problems.networks import CalledTwice, TokenMean
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import Observation, observe
from tests.support import by_hand, laws
from tests.support.ask import ekfac_of, kfac_of
from tests.support.strategies import fills, sharings

pytestmark = pytest.mark.shapes

small = st.integers(1, 4)
shapes = st.tuples(small, small)
BOTH, EXPAND, REDUCE = (ek.Expand(), ek.Reduce()), (ek.Expand(),), (ek.Reduce(),)

# family: the sharings under which KFAC is F on it
THEOREMS = {
    by_hand.constant_inputs: BOTH,
    by_hand.constant_gradients: BOTH,
    by_hand.product: BOTH,
    by_hand.columns_at_one_position_constant_inputs: BOTH,
    by_hand.columns_at_one_position_constant_gradients: EXPAND,
    by_hand.constant_inputs_over_positions: REDUCE,
    by_hand.gradients_constant_over_positions: REDUCE,
}
POSITIVE = [(family, sharing) for family, exact in THEOREMS.items() for sharing in exact]
NEGATIVE = [
    (family, sharing)
    for family, exact in THEOREMS.items()
    for sharing in BOTH
    if sharing not in exact
]


def names(value: object) -> str:
    return getattr(value, "__name__", type(value).__name__)


def far_off(operator: ek.Operator, seen: Observation) -> float:
    F = oracle.fisher(seen)
    return float((laws.dense(operator) - F).norm() / F.norm())


@given(fills, sharings, small, shapes)
def test_one_sample_with_any_number_of_columns(fill, sharing, C, d) -> None:
    seen = by_hand.one_sample(fill, sharing, C, d)
    laws.is_fisher(kfac_of(seen), seen)
    laws.is_fisher(ekfac_of(seen), seen)


@pytest.mark.parametrize(("family", "sharing"), POSITIVE, ids=names)
@given(fill=fills, N=small, C=small, d=shapes)
def test_kfac_is_exact(family, sharing, fill, N, C, d) -> None:
    seen = family(fill, sharing, N, C, d)
    laws.is_fisher(kfac_of(seen), seen)
    laws.is_fisher(ekfac_of(seen), seen)


@pytest.mark.parametrize(("family", "sharing"), NEGATIVE, ids=names)
def test_kfac_is_not_exact_under_the_other_sharing(family, sharing) -> None:
    """Otherwise the theorem's precondition would say nothing."""
    generator = torch.Generator().manual_seed(1)

    def fill(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    seen = family(fill, sharing, 3, 2, (3, 2))
    assert far_off(kfac_of(seen), seen) > 0.1


@given(fills.filter(lambda fill: bool(fill(1, 1).isfinite())), sharings, st.integers(2, 3))
def test_orthogonal_data_ekfac_is_exact_and_kfac_is_not(fill, sharing, N) -> None:
    """The one exactness law that tells the two apart."""
    seen = by_hand.orthogonal(fill, sharing, N, (3, 4))
    laws.is_fisher(ekfac_of(seen), seen)
    assert far_off(kfac_of(seen), seen) > 0.3


def test_positions_are_summed_before_the_square() -> None:
    """a = (1, -1), g = (1, -1): reduce factors are zero, F is 4, and so is EKFAC's trace."""
    a, g = torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([[[1.0], [-1.0]]]).double()
    seen = by_hand.observation([a], [g], ek.Reduce())
    assert float(kfac_of(seen).trace()) == 0.0
    assert float(ekfac_of(seen).trace()) == 4.0


@pytest.mark.parametrize("sharing", BOTH, ids=names)
def test_generic_data_is_not_exact(sharing) -> None:
    generator = torch.Generator().manual_seed(0)

    def fill(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    seen = by_hand.generic(fill, sharing, 4, 3, 2, (3, 2))
    assert far_off(kfac_of(seen), seen) > far_off(ekfac_of(seen), seen) > 0.1


# Deep linear networks, squared error, exact Fisher.

DEEP = {
    "one position": nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3, bias=False), nn.Linear(3, 2)),
    "a term per position": nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 2)),
    "mean over positions": nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2), TokenMean()),
    "called twice in depth": CalledTwice(nn.Linear(2, 2), nn.Identity(), nn.Linear(2, 3)),
}


def deep_linear(wiring: str, sharing) -> ek.Problem:
    generator = torch.Generator().manual_seed(2)
    model = DEEP[wiring].double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    positions = () if wiring in ("one position", "called twice in depth") else (4,)
    x = torch.randn(5, *positions, 2, generator=generator).double()
    y = torch.zeros_like(model(x))
    return ek.Problem(model, [(x[:3], y[:3]), (x[3:], y[3:])], ek.Gaussian(), sharing=sharing)


@pytest.mark.parametrize(
    ("wiring", "sharing", "exact"),
    [
        ("one position", ek.Expand(), True),
        ("one position", ek.Reduce(), True),
        ("a term per position", ek.Expand(), True),
        ("a term per position", ek.Reduce(), False),
        ("mean over positions", ek.Expand(), False),
        ("mean over positions", ek.Reduce(), True),
        ("called twice in depth", ek.Expand(), False),
        ("called twice in depth", ek.Reduce(), False),
    ],
    ids=names,
)
def test_deep_linear_networks(wiring, sharing, exact) -> None:
    problem = deep_linear(wiring, sharing)
    kfac = ek.kfac(problem)
    layer = "shared" if wiring == "called twice in depth" else "0"
    (seen,) = observe(problem)[layer]
    if exact:
        laws.is_fisher(kfac[layer], seen)
        laws.is_fisher(ek.ekfac(problem)[layer], seen)
    else:
        assert far_off(kfac[layer], seen) > 0.1
