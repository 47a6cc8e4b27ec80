"""The generator of networks reaches its corners; one that does not would make every law idle."""

from collections import Counter

from hypothesis import Phase, given, seed, settings

from ekfac_ref.conformance.strategies import Drawn, problems

RUNS, DRAWS = 25, 40
CORNERS = (
    *("linear", "tokens", "mask", "images", "bilinear", "embedding", "called twice", "tied"),
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    *("groups", "depthwise", "even kernel", "padding same", "padding mode", "output padding"),
    *("remainder", "stride != dilation != padding", "padding_idx", "depth >= 3"),
    *("in-place activation", "bias", "no bias", "T > 1", "N = 1", "uneven batches"),
    *("ignored labels", "classes first", "Gaussian", "Categorical", "Bernoulli", "Poisson"),
    *("float32", "float64", "duplicated data", "one_hot data", "badly_scaled data"),
    *("uncentred data", "dead data"),
)


def test_every_corner_is_reached_in_five_percent_of_draws() -> None:
    """In runs of the length that tests have: a long one dwells on variations of a few examples."""
    reached: Counter[str] = Counter()

    @settings(max_examples=DRAWS, phases=[Phase.generate], database=None, derandomize=False)
    @given(problems())
    def collect(drawn: Drawn) -> None:
        reached.update({*drawn.corners, "draws"})

    for run in range(RUNS):
        seed(run)(collect)()
    rare = {corner: reached[corner] / reached["draws"] for corner in CORNERS}
    assert reached["draws"] == RUNS * DRAWS
    assert {corner: share for corner, share in rare.items() if share < 0.05} == {}
