"""How small an error do laws see? Small ones; and where they see none, a pass is worth nothing."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

import ekfac_ref as ek
from ekfac_ref.conformance.findings.verdicts import Status
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import law_of_a_trial, notices
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS, larger, moved, perturbed, truncated
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.resolution import blind, resolution
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.examples import reference
from tests.support.witnesses import witnesses

LARGER, MOVED, EVERY_TIME, LOST = PERTURBATIONS


@pytest.fixture(scope="module")
def problem() -> ek.Problem:
    return witnesses()["vectors 1"]


@pytest.mark.parametrize("change", [larger, moved])
def test_a_perturbed_matrix_is_off_by_the_error(change) -> None:
    M = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert float((change(M, 0.01, 7) - M).norm() / M.norm()) == pytest.approx(0.01, rel=1e-4)


def test_small_parts_are_lost_and_large_ones_kept() -> None:
    M = torch.diag(torch.tensor([3.0, 1e-3, 2.0]))
    torch.testing.assert_close(truncated(M, 1e-2, 0), torch.diag(torch.tensor([3.0, 0.0, 2.0])))


@pytest.mark.parametrize(
    ("law", "kind", "at_most"),
    [
        ("trace", LARGER, 1e-10),
        ("self-projection", LARGER, 1e-10),
        ("symmetry", MOVED, 1e-10),
        ("linear", EVERY_TIME, 1e-10),
        ("eigenvalues", LARGER, 1e-10),
        ("recut", MOVED, 1e-10),
        ("kfac", LARGER, 1e-10),
        ("exact block", LARGER, 1e-10),
        ("solve 1", MOVED, 1e-10),
    ],
)
def test_in_float64_a_law_sees_its_kind_of_error(law, kind, at_most, problem) -> None:
    assert 1e-17 < resolution(LAWS[law], reference, problem, [kind]) <= at_most


def test_in_float32_a_wrong_scale_is_seen_from_a_ten_thousandth_on(problem) -> None:
    model = copy.deepcopy(problem.model).float()
    batches = [(x.float(), y.float()) for x, y in problem.batches]
    single = replace(problem, model=model, batches=batches)
    assert 1e-7 < resolution(LAWS["trace"], reference, single, [LARGER]) <= 1e-4


def test_what_no_law_is_about_it_does_not_see(problem) -> None:
    assert resolution(LAWS["symmetry"], reference, problem, [LARGER]) == float("inf")
    assert blind([LAWS["nan"]], reference, problem, 0.1) == [LAWS["nan"]]
    assert blind([LAWS["trace"]], reference, problem, 0.1) == []
    assert blind([LAWS["trace"]], reference, problem, 1e-17) == [LAWS["trace"]]


def test_groups_are_perturbed_one_by_one() -> None:
    """Else they would be coupled, which no law is asked about."""
    grouped = witnesses()["image 5"]  # a Conv1d in two groups
    assert notices(LAWS["moments"], Trial(perturbed(reference, MOVED, 0.1), grouped))
    assert not notices(LAWS["moments"], Trial(reference, grouped))


def test_a_law_that_would_not_have_seen_a_tenth_is_inconclusive() -> None:
    @law_of_a_trial("lazy", "nobody")
    def lazy(trial: Trial) -> Iterator[float]:
        """anything goes"""
        yield 0.0

    report = Run(Here(reference), Profile("tiny", 3, 0.1), laws=[lazy, LAWS["trace"]]).report()
    statuses = {verdict.law.name: verdict.status for verdict in report.verdicts}
    assert statuses == {"lazy": Status.INCONCLUSIVE, "trace": Status.PASS}
    assert report.exit_code == 5
    assert report.summary == "Inconclusive: answers far off would pass lazy too; ask more."
