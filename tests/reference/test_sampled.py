"""The sampler: unbiased, and a function of (seed, sample, draw) alone."""

import numpy as np
import pytest
import torch
from torch import nn

import ekfac_ref as ek

DRAWS = 2000
LIKELIHOODS = {
    "gaussian": ek.Gaussian(),
    "categorical": ek.Categorical(),
    "bernoulli": ek.Bernoulli(),
    "poisson": ek.Poisson(),
}


def problem(likelihood: ek.Likelihood, fisher) -> ek.Problem:
    generator = torch.Generator().manual_seed(4)
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    x = torch.randn(5, 2, generator=generator).double()
    y = torch.arange(5) % 3 if likelihood == ek.Categorical() else torch.ones(5, 3).double()
    return ek.Problem(model, [(x[:2], y[:2]), (x[2:], y[2:])], likelihood, fisher=fisher)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_sampled_fisher_is_unbiased(name: str) -> None:
    """z-tests of tr F and 20 quadratic forms v^T F v per layer; a bias of 25% would show in each.

    Fixed seeds: the bound of 5 standard errors is passed or not, it does not flake. By chance alone
    a correct sampler would miss it once in 40,000 times (42 two-sided tests at 5.7e-7 each).
    """
    sampled = problem(LIKELIHOODS[name], ek.Sampled(draws=DRAWS, seed=7))
    exact = ek.exact_fisher(problem(LIKELIHOODS[name], ek.Exact()))
    runs = list(ek.per_sample_gradients(sampled))
    for layer, block in exact.items():
        G = torch.cat([run[layer] for run in runs]) * DRAWS**0.5
        assert_unbiased(G.flatten(2), block.dense())


def assert_unbiased(rows: torch.Tensor, F: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    directions = torch.randn(rows.shape[2], 20, generator=generator).double()
    forms = torch.cat([(rows**2).sum(2, keepdim=True), (rows @ directions) ** 2], 2)
    expected = torch.cat([F.trace()[None], (directions * (F @ directions)).sum(0)])
    mean = forms.mean((0, 1))
    error = (forms.var(1) / DRAWS).mean(0).div(len(forms)).sqrt()
    assert float(((mean - expected) / error).abs().amax()) < 5
    assert float((5 * error / expected).amax()) < 0.25  # the power that the docstring states


def test_labels_do_not_depend_on_the_cut() -> None:
    """Batches 2 + 3 against one sample at a time: the same labels, so the same matrices."""
    cut = problem(ek.Categorical(), ek.Sampled(draws=2, seed=3))
    single = [(x[n : n + 1], y[n : n + 1]) for x, y in cut.batches for n in range(len(y))]
    other = ek.Problem(cut.model, single, cut.likelihood, fisher=cut.fisher)
    for name, block in ek.exact_fisher(cut).items():
        torch.testing.assert_close(block.dense(), ek.exact_fisher(other)[name].dense())


def test_seed_sample_and_draw_all_matter() -> None:
    f, y = torch.zeros(6, 50).double(), torch.zeros(6, 50).double()
    scores = ek.Sampled(draws=2, seed=0).columns(ek.Gaussian(), f, y, first=0)
    later = ek.Sampled(draws=2, seed=0).columns(ek.Gaussian(), f, y, first=3)
    other = ek.Sampled(draws=2, seed=1).columns(ek.Gaussian(), f, y, first=0)
    assert torch.equal(scores[3:], later[:3])
    for one, two in ((scores[:, 0], scores[:, 1]), (scores[0], scores[1]), (scores, other)):
        assert float((one == two).double().mean()) == 0.0


def test_a_part_of_the_data_has_the_labels_that_the_whole_has() -> None:
    f, y = torch.zeros(6, 50).double(), torch.zeros(6, 50).double()
    whole = ek.Sampled(draws=2, seed=4).columns(ek.Gaussian(), f, y, first=0)
    part = ek.Sampled(draws=2, seed=4, before=4).columns(ek.Gaussian(), f[4:], y[4:], first=0)
    assert torch.equal(whole[4:], part)


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"seed": -1}, {"before": -1}])
def test_numbers_that_count_nothing(wrong: dict[str, int]) -> None:
    with pytest.raises(ek.ProblemError, match=r"needs draws >= 1, seed >= 0 and before >= 0; give"):
        ek.Sampled(**wrong)


def test_one_draw_given_its_labels_is_an_empirical_fisher() -> None:
    likelihood, fisher = ek.Categorical(), ek.Sampled(draws=1, seed=9)
    sampled = problem(likelihood, fisher)
    batches, first = [], 0
    for x, y in sampled.batches:
        with torch.no_grad():
            f = sampled.model(x)
        rngs = [
            np.random.Generator(np.random.Philox(key=9, counter=[0, 0, 0, first + n]))
            for n in range(len(y))
        ]
        drawn = [likelihood.sample(f[n : n + 1], y[n : n + 1], rng) for n, rng in enumerate(rngs)]
        batches.append((x, torch.cat(drawn)))
        first += len(y)
    injected = ek.Problem(sampled.model, batches, likelihood, fisher=ek.Empirical())
    for name, block in ek.exact_fisher(sampled).items():
        torch.testing.assert_close(block.dense(), ek.exact_fisher(injected)[name].dense())


def test_the_axis_of_classes_is_where_it_is_said_to_be() -> None:
    f, y = torch.randn(6, 4, 3), torch.zeros(6, 4).long()
    last, first = (
        ek.Categorical(axis).sample(g, y, np.random.default_rng(0))
        for axis, g in ((-1, f), (1, f.movedim(-1, 1)))
    )
    assert torch.equal(last, first)


def test_ignored_labels_stay_ignored() -> None:
    likelihood = ek.Categorical()
    f, y = torch.zeros(1, 4, 3).double(), torch.tensor([[0, -100, 2, -100]])
    S = ek.Sampled(draws=3, seed=0).columns(likelihood, f, y, first=0)
    assert float(S[:, :, [1, 3]].abs().sum()) == 0.0
    assert float(S[:, :, [0, 2]].abs().amin(-1).amin()) > 0.0
