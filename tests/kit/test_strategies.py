"""Every kind of layer, data and mask is drawn often enough that fifty problems have it."""

from collections import Counter

from torch import nn

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import notices
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.choices import by_seed
from ekfac_ref.conformance.problems.draw import of_one_family
from ekfac_ref.conformance.problems.families.catalogue import FAMILIES
from ekfac_ref.conformance.problems.families.rows import masked_tokens
from ekfac_ref.conformance.problems.strategies import network_with_data
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.columns import Exact

DRAWS, AT_LEAST = 1100, 0.025  # so that fifty problems have it once
CORNERS = (
    *("linear", "tokens", "mask", "images", "bilinear", "embedding", "called twice", "tied"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("groups", "depthwise", "even kernel", "padding same", "padding mode", "output padding"),
    *("remainder", "stride != dilation != padding", "padding_idx", "depth >= 3"),
    *("in-place activation", "bias", "no bias", "T > 1", "N = 1", "uneven batches"),
    *("ignored labels", "classes first", "Gaussian", "Categorical", "Bernoulli", "Poisson"),
    *("float32", "float64", "duplicated data", "one_hot data", "badly_scaled data"),
    *("uncentred data", "dead data", "whitened data", "orthogonal data", "constant data"),
    *("saturated", "product data", "zero data", "one bias of two", "mixing tokens"),
)


def test_every_corner_is_reached() -> None:
    """As the kit draws: families in turn, and every problem by a seed of its own."""
    reached: Counter[str] = Counter()
    for number in range(DRAWS):
        family = FAMILIES[number % len(FAMILIES)]
        reached.update(network_with_data(by_seed(f"corners {number}"), (family,)).corners)
    shares = {corner: reached[corner] / DRAWS for corner in CORNERS}
    assert {corner: share for corner, share in shares.items() if share < AT_LEAST} == {}


def test_every_fisher_meets_every_sharing() -> None:
    """Within four problems of a family, or fifty problems had masks under one sharing only."""
    for can, pairs in ((Abilities(), 4), (Abilities(fishers=(Exact,)), 2)):
        found = of_one_family(can, masked_tokens, pairs, 0)
        assert len({(p.fisher, p.sharing) for p in found}) == pairs


def test_the_masks_of_two_samples_differ() -> None:
    for number in range(20):
        problem = network_with_data(by_seed(f"masks {number}"), (masked_tokens,)).problem()
        assert problem.mask is not None
        counted = [int(n) for x, _ in problem.batches for n in problem.mask(x).sum(1)]
        assert len(counted) == 1 or len(set(counted)) > 1


def test_ones_at_padding_can_be_seen_behind_every_mask() -> None:
    """The first layer has a bias, and a gradient in most problems: half of them are not enough."""
    found = [p for seed in range(5) for p in of_one_family(Abilities(), masked_tokens, 5, seed)]
    first = [next(m for m in p.model.modules() if isinstance(m, nn.Linear)) for p in found]
    assert all(layer.bias is not None for layer in first)
    mistake, law = MUTANTS["ones-at-padding"].subject, LAWS["commutes"]
    seen = [notices(law, Trial(mistake, p)) for p in found]
    assert sum(seen) >= 0.7 * len(found)
