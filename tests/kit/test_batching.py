"""Data as it comes: batches of which some have a mask, and DataLoaders, which drop or do not."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.problems import changed, draw
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.designed import plan
from ekfac_ref.conformance.problems.designed.batching import dropping, held
from ekfac_ref.conformance.problems.digest import digest
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem
from tests.independent import losses, matrices
from tests.independent.layouts import layers_of
from tests.independent.plain_loop import per_sample_gradients
from tests.independent.positions import Positions, per_sample_positions
from tests.support.agreement import FISHERS, FLOAT64, SHARINGS, error
from tests.support.pin_witnesses import broken, ratios

DOUBLE = Abilities(dtypes=(torch.float64,))
Counted = list[list[bool]]


@cache
def designed() -> list[tuple[set[str], Problem]]:
    """All problems under three seeds, and what each is drawn for."""
    return [
        ({name for variation in some for name in variation.features}, problem)
        for seed in range(3)
        for (_, some), problem in zip(
            plan.in_order(DOUBLE, seed), plan.with_one_feature(DOUBLE, seed), strict=True
        )
    ]


def drawn(feature: str) -> list[Problem]:
    """Those that are drawn for this feature."""
    return [problem for features, problem in designed() if feature in features]


def loaders() -> list[Problem]:
    return [*drawn("DataLoader"), *drawn("DataLoader, drop_last")]


@pytest.mark.parametrize(("fisher", "columns"), FISHERS, ids=["exact", "empirical"])
@pytest.mark.parametrize("sharing", SHARINGS, ids=["expand", "reduce"])
def test_all_positions_of_a_batch_without_a_mask_count(fisher, columns, sharing) -> None:
    """By a loop over samples and positions that knows nothing of batches, masks or this package."""
    rule, input_factor, gradient_factor = sharing
    for problem in drawn("mask in some batches"):
        asked = replace(problem, fisher=fisher, sharing=rule)
        K, E = ek.kfac(asked), ek.ekfac(asked)
        seen: dict[str, list[Positions]] = {name: [] for name in layers_of(problem.model)}
        G: dict[str, list[Tensor]] = {name: [] for name in seen}
        counted: Counted = []
        for x, y in problem.batches:
            question = (problem.model, x, y, losses.cross_entropy, columns)
            for name, found in per_sample_positions(*question).items():
                seen[name] += found
            for name, of_layer in per_sample_gradients(*question).items():
                G[name] += of_layer
            assert isinstance(x, dict)
            counted += x["mask"].tolist() if "mask" in x else [[True] * 3 for _ in y]
        assert [all(row) for row in counted] == [True, True, False, False, *[True] * (len(y))]
        for name in seen:
            one = len(seen[name][0].a) == 1  # the head, whose samples are one position each
            of_layer = [[True]] * len(counted) if one else counted
            A = input_factor(matrices.inputs_of_group(seen[name], 0), of_layer)
            B = gradient_factor(matrices.output_gradients_of_group(seen[name], 0), of_layer)
            assert error(K[name].dense(), matrices.kronecker(B, A)) < FLOAT64
            Lambda = matrices.eigenvalues(G[name], E[name].Q_B, E[name].Q_A)
            expected = matrices.eigen_kronecker(E[name].Q_B, E[name].Q_A, Lambda)
            assert error(E[name].dense(), expected) < FLOAT64


def test_a_batch_without_padding_has_no_mask_and_comes_before_and_behind_one_that_has() -> None:
    for problem in drawn("mask in some batches"):
        assert ["mask" in x for x, _ in problem.batches] == [False, True, False]
        assert problem.mask is not None
        assert [problem.mask(x) is None for x, _ in problem.batches] == [True, False, True]


def test_a_loader_goes_through_its_samples_in_order_and_drops_what_does_not_fill_a_batch() -> None:
    for problem in loaders():
        loader: Any = problem.batches
        ys = [y for _, y in loader]
        N, size = len(loader.dataset), loader.batch_size
        sizes = [size] * (N // size) + [N % size] * (not loader.drop_last)
        assert [len(y) for y in ys] == sizes
        assert N % size > 0
        pairs = zip(torch.cat(ys), loader.dataset, strict=False)
        assert all(torch.equal(y, sample[1]) for y, sample in pairs)
    assert {loader.drop_last for loader in (p.batches for p in loaders())} == {False, True}
    assert any(N == 1 for p in drawn("DataLoader") for *_, N in [[len(y) for _, y in p.batches]])


def test_the_reference_breaks_no_law_on_them() -> None:
    subject = ct.load("ekfac_ref.examples:reference")
    for problem in [*loaders(), *drawn("mask in some batches")][::3]:
        assert broken(ratios(Trial(subject, problem))) == ()


def seen_of(problem: Problem, look: Callable[[Any], object]) -> list[str]:
    """What a subject has changed that looks at its batches and then answers."""

    def ekfac(given: Problem) -> Any:
        look(given.batches)
        return ek.ekfac(given)

    trial = Trial(ct.Subject("looks", ekfac), problem)
    assert trial.cases
    return trial.changes


def test_a_subject_gets_the_loader_and_may_go_through_it() -> None:
    for problem in loaders():
        got: list[Any] = []
        assert seen_of(problem, lambda batches, got=got: got.extend([batches, *batches])) == []
        loader: Any = problem.batches
        assert type(got[0]) is DataLoader
        assert got[0] is not loader
        assert (got[0].batch_size, got[0].drop_last) == (loader.batch_size, loader.drop_last)


def test_what_is_done_to_the_samples_is_seen_and_stays_with_the_copy() -> None:
    for problem in loaders():
        before = digest([problem])
        changes = seen_of(problem, lambda batches: batches.dataset[-1][1].eq_(0))
        assert changes
        assert all("data" in line for line in changes)
        assert digest([problem]) == before


def test_a_loader_is_written_as_one_with_what_it_drops() -> None:
    for problem in loaders():
        again = Written(Written.of(problem).text).rebuilt
        loader: Any = again.batches
        assert type(loader) is DataLoader
        assert digest([again]) == digest([problem])
        loader.dataset[-1][1].add_(1)  # in the last variant, a sample that never comes
        assert digest([again]) != digest([problem])


def test_a_loader_is_no_list_of_its_batches() -> None:
    for problem in loaders():
        loader: Any = problem.batches
        listed = replace(problem, batches=[*loader])
        size, drops = loader.batch_size, loader.drop_last
        one, other = (DataLoader(loader.dataset, size, drop_last=d) for d in (drops, not drops))
        assert digest([replace(problem, batches=one)]) == digest([problem])
        assert digest([replace(problem, batches=other)]) != digest([problem])
        E, F = ek.ekfac(problem), ek.ekfac(listed)
        assert all(torch.equal(E[name].dense(), F[name].dense()) for name in E)


@pytest.mark.parametrize(
    "change", [changed.recut, changed.in_reverse, changed.doubled, changed.other_labels]
)
def test_changes_that_leave_the_exact_fisher_as_it_is(
    change: Callable[[Problem], Problem],
) -> None:
    """What is dropped comes in no other way either."""
    for problem in loaders():
        asked = replace(problem, fisher=ek.Exact())
        before, after = ek.exact_fisher(asked), ek.exact_fisher(change(asked))
        assert all(error(after[n].dense(), F.dense()) < FLOAT64 for n, F in before.items())


def test_nan_reaches_the_batches_of_a_loader() -> None:
    for problem in loaders():
        with pytest.raises(ek.ProblemError, match="NaN"):
            ek.ekfac(changed.with_nan(problem))


def test_a_loader_of_somebody_else_is_copied_as_its_batches() -> None:
    """A dataset may be anything: it cannot be copied by knowing what is in it."""
    x, y = torch.randn(3, 2), torch.zeros(3, 2)
    for shuffle in (False, True):
        loader = DataLoader(TensorDataset(x, y), batch_size=2, shuffle=shuffle)
        problem = Problem(nn.Linear(2, 2), loader, ek.Gaussian())
        assert held(loader) is loader
        assert [len(y) for _, y in changed.copied(problem).batches] == [2, 1]


def test_some_mixtures_drop_samples() -> None:
    """Of any set as large as the power of the laws is measured on; and each has what it counts."""
    for seed in range(3):
        mixtures = draw.mixtures(DOUBLE, 66, seed)
        loaders = [p.batches for p in mixtures if isinstance(p.batches, DataLoader)]
        assert len(loaders) >= 3
        for loader in loaders:
            assert 0 < sum(len(y) for _, y in loader) < len(loader.dataset)


def test_nothing_is_dropped_where_there_is_nothing_to_drop() -> None:
    x, y = torch.randn(2, 3), torch.randn(2, 1)
    model = nn.Linear(3, 1)
    one_batch = Problem(model, [(x, y)], ek.Gaussian())
    in_parts = Problem(model, [((x, x), y)], ek.Gaussian())
    assert dropping(one_batch) is one_batch
    assert dropping(in_parts) is in_parts
