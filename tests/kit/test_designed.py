"""Designed problems have one thing special about them, all that there is, and a known answer."""

from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.laws.law import notices
from ekfac_ref.conformance.problems.abilities import DTYPES, Abilities
from ekfac_ref.conformance.problems.designed import plan
from ekfac_ref.conformance.problems.designed.variations import OF_TWO
from ekfac_ref.conformance.problems.digest import digest
from ekfac_ref.conformance.problems.features import ANY_CONVOLUTION, FEATURES, features
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.problems.wiring import WIRING
from ekfac_ref.conformance.run.profile import PROFILES
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.matrix.operators import Operator
from ekfac_ref.question.problem import Problem
from tests.independent import losses
from tests.independent.columns import Loss
from tests.independent.layouts import MATRIX_OF
from tests.independent.plain_loop import samples

EVERYTHING = Abilities(dtypes=DTYPES)
QUESTION = {"Categorical", "exact Fisher", "expand", "float64"}
IN_PLACE_OF = {  # of the question: one takes the place of another
    **dict.fromkeys(("Gaussian", "Bernoulli", "Poisson"), "Categorical"),
    **{"empirical Fisher": "exact Fisher", "reduce": "expand"},
    **dict.fromkeys(("float32", "bfloat16"), "float64"),
}
_AT_POSITIONS = {"positions of a Linear, one axis", "positions of an Embedding"}
# What a problem with the one cannot be without, or cannot be kept from.
IMPLIED = {
    "depthwise": {"groups"},
    **{f"uneven {name}": {name} for name in ("stride", "dilation", "padding")},
    "output padding": {"stride"},
    "padding mode": {"padding", "uneven padding"},
    "padding by reflection": {"padding", "padding mode", "uneven padding"},
    "uneven batches": {"several batches"},
    "one sample": {"fewer rows than inputs"},
    "one input for all samples": {"fewer rows than inputs"},
    "input changed in place": {"frozen layer"},
    "parameters of no layer": {"some layers only"},
    "MultiheadAttention": {"some layers only", "parameters of no layer", *_AT_POSITIONS},
    "class axis": {"outputs at positions", *_AT_POSITIONS},
    **dict.fromkeys(("outputs at positions", "mask"), _AT_POSITIONS),
    "mask in some batches": {"mask", "several batches", "uneven batches", *_AT_POSITIONS},
    "DataLoader": {"several batches", "uneven batches"},
    "DataLoader, drop_last": {"DataLoader", "several batches"},
    **dict.fromkeys(("tokens first", "self-attention"), _AT_POSITIONS),
    "more positions than weights": _AT_POSITIONS,
}
# Large outputs at many positions: of a small kernel they are more than its weights.
MANY = {"dilation", "output padding", "padding by reflection", "padding mode", "tokens first"}
MANY |= {"uneven stride", "uneven dilation", "uneven padding"}


QUICK = PROFILES["quick"].problems


def plain_features(kind: type[nn.Module]) -> set[str]:
    """What the plain case has, and cannot be without."""
    if issubclass(kind, ANY_CONVOLUTION):
        uneven = {"uneven kernel"} if kind.__name__.endswith("3d") else set()
        return {kind.__name__, "positions of a convolution", *QUESTION} | uneven
    return {kind.__name__, *QUESTION} | ({"several inputs"} if kind is nn.Bilinear else set())


@cache
def designed(seed: int) -> list[tuple[type[nn.Module], set[str], Problem]]:
    """(kind, features that it is drawn for, problem), in the order of the draw."""
    drawn = zip(
        plan.in_order(EVERYTHING, seed), plan.with_one_feature(EVERYTHING, seed), strict=True
    )
    return [(kind, {f for v in some for f in v.features}, p) for (kind, some), p in drawn]


@pytest.mark.parametrize("seed", range(3))
def test_a_problem_has_what_it_is_drawn_for_and_nothing_else(seed: int) -> None:
    """Of the plain case, nothing at all else."""
    for kind, drawn_for, problem in designed(seed):
        found, plain = set(features(problem)), plain_features(kind)
        implied = {more for name in drawn_for for more in IMPLIED.get(name, ())}
        implied |= {"more positions than weights"} if drawn_for & MANY else set()
        implied |= {"uneven kernel"} if kind.__name__.endswith("2d") else set()  # as likely as not
        assert drawn_for <= found, (kind, drawn_for)
        assert found - plain - drawn_for <= implied, (kind, drawn_for, found)
        assert plain - found == {IN_PLACE_OF[name] for name in drawn_for & set(IN_PLACE_OF)}


def test_every_kind_of_layer_comes_first_as_a_plain_case() -> None:
    kinds = plan.declared_kinds(EVERYTHING)
    assert [(kind, drawn_for) for kind, drawn_for, _ in designed(0)[: len(kinds)]] == [
        (kind, set()) for kind in kinds
    ]


def test_every_feature_comes_alone_twice_and_with_every_kind_that_can_have_it() -> None:
    assert len(designed(0)) < QUICK
    for seed in range(3):
        times, kinds = Counter[str](), defaultdict(set)
        for kind, drawn_for, problem in designed(seed):
            names = drawn_for | (plain_features(kind) & set(features(problem)))
            times.update(names)
            for name in names:
                kinds[name].add(kind)
        assert {name for name in FEATURES if times[name] < 2} == set()
        several = {name for name, f in FEATURES.items() if not f.kinds}
        assert {name for name in several if len(kinds[name]) < 2} == set()
        for name, feature in FEATURES.items():
            assert kinds[name] >= set(feature.kinds), name


def test_who_can_do_little_meets_every_feature_twice_too() -> None:
    for kind in (nn.Linear, nn.Conv2d, nn.Embedding):
        can = Abilities(layers=(kind,))
        times = Counter(v.features for _, some in plan.in_order(can, 0) for v in some)
        assert min(times.values()) == 2
        assert len(times) > 20


@pytest.mark.parametrize("seed", range(3))
def test_pairs_have_both(seed: int) -> None:
    pairs = list(islice(plan.with_two_features(EVERYTHING, seed), 30))
    for problem, names in zip(
        pairs, [*(v.features for v in OF_TWO), *plan.FIRST_PAIRS], strict=False
    ):
        assert set(names) <= set(features(problem))
    beyond = [set(features(p)) - QUESTION - set(IN_PLACE_OF) for p in pairs]
    assert len({frozenset(f) for f in beyond}) > 20


def test_nothing_is_drawn_that_is_not_declared() -> None:
    """Whatever is left out, alone, and all at once."""
    positions = {
        "mask",
        "mask in some batches",
        "outputs at positions",
        "class axis",
        "stride",
        "tokens first",
    }
    positions |= {name for name in FEATURES if name.startswith("positions")}
    shared = {"called twice", "tied weight", "weight used beside its module"}
    narrow = {
        Abilities(masks=False): {"mask", "mask in some batches"},
        Abilities(positions=False): positions | shared,
        Abilities(shared_weights=False): shared | {"one module, two names"},
        Abilities(bias=False): {"frozen bias"},
        Abilities(likelihoods=(ek.Gaussian,)): {"Categorical", "Bernoulli", "Poisson"},
        Abilities(fishers=(ek.Empirical,)): {"exact Fisher"},
        Abilities(sharings=(ek.Reduce,)): {"expand"},
        Abilities(dtypes=(torch.float32,)): {"float64"},
        Abilities(layers=(nn.Conv2d,)): {k.__name__ for k in MATRIX_OF} - {"Conv2d"},
    }
    for abilities, never in narrow.items():
        two = islice(plan.with_two_features(abilities, 0), 20)
        drawn = [*plan.with_one_feature(abilities, 0), *two]
        found = {name for problem in drawn for name in features(problem)}
        assert found & never == set(), abilities
        assert len(drawn) > 60


def test_layers_without_a_bias_have_none_anywhere() -> None:
    for problem in plan.with_one_feature(Abilities(bias=False), 0):
        biases = [
            m.bias for m in problem.model.modules() if type(m) in MATRIX_OF and hasattr(m, "bias")
        ]
        assert set(biases) <= {None}


def test_a_kind_of_layer_that_is_not_declared_is_not_there() -> None:
    """But where the feature is that there is another, that is not asked about, or frozen."""
    can = Abilities(layers=(nn.Conv2d,))
    for (_, some), problem in zip(
        plan.in_order(can, 0), plan.with_one_feature(can, 0), strict=True
    ):
        others = [m for m in problem.model.modules() if isinstance(m, nn.Linear)]
        of_another = {"some layers only", "frozen layer"}
        assert not others or {v.features[0] for v in some} <= of_another


def test_every_problem_can_be_written_as_python() -> None:
    two = islice(plan.with_two_features(EVERYTHING, 1), 30)
    for problem in [*(p for *_, p in designed(1)), *two]:
        again = Written(Written.of(problem).text).rebuilt
        assert digest([again]) == digest([problem])
        assert features(again) == features(problem)


def test_the_statistics_of_a_norm_are_in_the_text_and_in_the_digest() -> None:
    problem = next(p for _, names, p in designed(0) if "BatchNorm" in names)
    assert ".running_var').copy_(" in Written.of(problem).text
    other = Written(Written.of(problem).text).rebuilt
    next(m for m in other.model.modules() if hasattr(m, "running_var")).running_var += 1
    assert digest([other]) != digest([problem])


def torch_loss(likelihood: ek.Likelihood) -> Loss:
    if isinstance(likelihood, ek.Categorical):
        first = likelihood.class_axis == 1
        return losses.cross_entropy if first else losses.token_cross_entropy
    by_kind = {ek.Gaussian: losses.half_squared_error, ek.Bernoulli: losses.bernoulli}
    return by_kind.get(type(likelihood), losses.poisson)


def plain_fisher(problem: Problem, name: str) -> torch.Tensor:
    """(1/N) sum_n vec G_n vec G_n^T of the samples' own losses, by autograd, one at a time."""
    module = problem.model.get_submodule(name)
    kind = next(k for k in MATRIX_OF if isinstance(module, k))
    trained = [p for p in (module.weight, getattr(module, "bias", None)) if p is not None]
    trained = [p for p in trained if p.requires_grad]
    G = []
    for x, y in problem.batches:
        for run, label in samples(x, y):
            loss = torch_loss(problem.likelihood)(run(problem.model), label)
            weight, *bias = torch.autograd.grad(loss, trained)
            matrix = MATRIX_OF[kind](module, weight)
            G.append(torch.cat([matrix, *(b[:, None] for b in bias)], 1).flatten())
    return torch.stack(G).T @ torch.stack(G) / len(G)


def test_the_oracle_knows_every_wiring() -> None:
    """As autograd does, that knows nothing of layers."""
    of_wiring = {feature.name for feature in WIRING} | {"mask", "class axis", "frozen bias"}
    of_wiring |= {"mask in some batches", "DataLoader", "DataLoader, drop_last"}
    asked = [p for _, names, p in designed(0) if names & of_wiring and p.dtype is torch.float64]
    asked += [
        p for p in islice(plan.with_two_features(EVERYTHING, 0), 6) if p.dtype is torch.float64
    ]
    assert len(asked) > 50
    for problem in asked:
        empirical = replace(problem, fisher=ek.Empirical())
        for name, block in ek.exact_fisher(empirical).items():
            F = plain_fisher(empirical, name)
            assert torch.allclose(block.dense(), F, rtol=1e-10, atol=1e-12), features(problem)


def five_times(problem: Problem) -> dict[str, Operator]:
    """The EKFAC, 5 times as large where it is that of a plain Conv2d."""
    plain = set(features(problem)) <= {*plain_features(nn.Conv2d), "uneven kernel"}
    return {name: E.scaled(5.0 if plain else 1.0) for name, E in ek.ekfac(problem).items()}


def test_a_mistake_on_the_plain_case_alone_is_noticed_under_every_seed() -> None:
    subject = ct.Subject("five times", five_times, abilities=Abilities(layers=(nn.Conv2d,)))
    for seed in range(10):
        problems = ct.draw_problems(subject.abilities, QUICK, seed)
        trials = (Trial(subject, p) for p in problems)
        assert any(notices(ct.LAWS["trace"], trial) for trial in trials)
