"""One that draws labels for itself: right by chance, and wrong in spite of it."""

import re
from collections.abc import Callable
from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.laws.law import BY_CHANCE
from ekfac_ref.conformance.mutants.sampler import Sampler
from ekfac_ref.conformance.process.wire import drawn_as_plain, drawn_from
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.profile import PROFILES
from ekfac_ref.conformance.subjects.drawn import ALARMS, WITHIN
from ekfac_ref.conformance.subjects.subject import SAMPLED
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import drawn_labels
from ekfac_ref.conformance.truth.drawn_labels import Concentration, Enumerated, Labels, Normal
from tests.support.draws import sampling
from tests.support.partial_subjects import problem

BY_DRAWS = [name for name, law in ct.LAWS.items() if law.lane in BY_CHANCE]
FEW = ct.Profile("few", problems=3, shrink_seconds=0.2)
RIGHT = Sampler()
# Of two samples each: labels, and one M for each sample.
NORMAL = ([Normal(), Normal()], [torch.diag(torch.tensor(m).double()) for m in ((2, 1), (0.5, 0))])
SCORES = torch.tensor([[0.9, -0.9], [-0.1, 0.1]]).double()
RARE = ([Enumerated(SCORES, torch.tensor([0.1, 0.9]).double().log())] * 2, NORMAL[1])
BOTH = pytest.mark.parametrize("given", [NORMAL, RARE], ids=["normal", "rare"])


def means(given: tuple[list[Labels], list[Tensor]], n: int, times: int) -> Tensor:
    """So many means of n draws of s^T M s, n / 2 of either sample."""
    found = torch.zeros(times).double()
    for labels, M in zip(*given, strict=True):
        if isinstance(labels, Normal):  # sums of n / 2 squares each
            squares = torch.distributions.Chi2(torch.tensor(n / 2).double()).sample((times, 2))
            found += squares @ M.diagonal() / n
        else:
            first = torch.distributions.Binomial(n // 2, labels.log_p[0].exp()).sample((times,))
            of = torch.einsum("yk,kl,yl->y", labels.scores, M, labels.scores)
            found += (first * of[0] + (n // 2 - first) * of[1]) / n
    return found


@BOTH
def test_a_surprise_is_as_rare_as_it_says(given: tuple[list[Labels], list[Tensor]]) -> None:
    """For few draws, where nothing is normal yet: 2 exp(-S) of right ones at most, not far fewer.

    An exponent of a normal distribution loses its factor of about 1 / sqrt(4 pi S) only.
    """
    torch.manual_seed(0)
    how, n, times = Concentration.of(*given), 60, 2000
    found = means(given, n, times)
    assert abs(float(found.mean()) / how.mean - 1) < 0.02
    for S in (1.0, 3.0):
        beyond = sum(how.surprise(float(x), n, 0.0) >= S for x in found) / times
        assert exp(-S) / 20 < beyond < 2 * exp(-S)


@BOTH
def test_an_error_of_a_tenth_is_missed_once_in_a_hundred(
    given: tuple[list[Labels], list[Tensor]],
) -> None:
    torch.manual_seed(0)
    how, S, times = Concentration.of(*given), 30.0, 1000
    n = 2 * round(how.needed(S, 0.0) / 2)
    found = means(given, n, times)
    assert not any(how.surprise(float(x), n, 0.0) >= S for x in found)
    for factor in (1 - drawn_labels.ERROR, 1 + drawn_labels.ERROR):
        missed = sum(how.surprise(factor * float(x), n, 0.0) < S for x in found) / times
        assert missed <= drawn_labels.MISSED
        with_less = means(given, 2 * round(n / 3), times)
        missed = sum(how.surprise(factor * float(x), 2 * round(n / 3), 0.0) < S for x in with_less)
        assert missed / times > drawn_labels.MISSED


def test_rounding_is_forgiven_and_no_more_than_that() -> None:
    how = Concentration.of(*NORMAL)
    assert how.surprise(1.5 * how.mean, 10_000, slack=0.5 * how.mean) == 0
    far, near = how.surprise(1.5 * how.mean, 10_000, 0.0), how.surprise(1.3 * how.mean, 10_000, 0.0)
    assert how.surprise(1.5 * how.mean, 10_000, 0.2 * how.mean) == pytest.approx(near) != far
    assert how.needed(30.0, 0.04 * how.mean) > 2 * how.needed(30.0, 0.0)


@pytest.mark.parametrize(
    ("likelihood", "y"),
    [
        (ek.Categorical(1), torch.tensor([[0, -100, 2], [1, 1, 0]])),
        (ek.Bernoulli(), torch.tensor([[[0.0, 1], [1, 1], [0, 0]]]).double().expand(2, 3, 2)),
        (ek.Gaussian(), torch.zeros(2, 3, 2).double()),
    ],
    ids=lambda one: type(one).__name__,
)
def test_expectations_are_those_of_the_exact_fisher(likelihood: ek.Categorical, y: Tensor) -> None:
    torch.manual_seed(0)
    size = y.shape[-1]
    net = nn.Sequential(nn.Linear(2, 3 * size), nn.Unflatten(1, (3, size))).double()
    question = ek.Problem(net, [(torch.randn(2, 2).double(), y)], likelihood)
    trial = Trial(sampling(), question)
    assert trial.drawn.question is not None
    F = ek.exact_fisher(question)["0"].matrix
    named = {form.name: form for form in trial.drawn.question.forms if form.way == "sampled_fisher"}
    for form in named.values():
        assert form.labels.mean == pytest.approx(float((F * form.weight).sum()))
    assert "tr F" in named


def test_the_level_is_that_of_all_tests_of_the_full_profile() -> None:
    """In sum over problems, ways, numbers and sides; and one draw of every copy is counted on."""
    question = Trial(sampling(), problem()).drawn.question
    assert question is not None
    assert PROFILES["full"].problems <= WITHIN
    assert 2 * len(question.forms) * WITHIN * exp(-question.surprise) <= ALARMS * (1 + 1e-9)
    assert question.surprise < log(2 * 50 * WITHIN / ALARMS)
    assert question.draws == sum(len(y) for _, y in question.problem.batches)


@pytest.mark.parametrize("likelihood", [ek.Gaussian(), ek.Poisson()], ids=["normal", "Poisson"])
def test_what_has_no_bound_is_not_asked(likelihood: ek.Gaussian) -> None:
    net = nn.Linear(2, 2).double()
    question = ek.Problem(net, [(torch.ones(2, 2).double(), torch.ones(2, 2).double())], likelihood)
    found = ct.ask(sampling(draw=lambda problem, f, y: y), question, BY_DRAWS)
    assert bool(found) is (likelihood == ek.Gaussian())


def most_likely(question: ek.Problem, f: Tensor, y: Tensor) -> Tensor:
    return f.argmax(1)


WRONG = {
    "argmax": sampling(draw=most_likely),
    "the labels of the data": sampling(draw=lambda problem, f, y: y),
    "a tenth too much": sampling(times=1.1**0.5),
    "a tenth too little": sampling(times=0.9**0.5),
}


@pytest.mark.parametrize("name", WRONG)
def test_who_draws_wrongly_is_noticed_in_every_way(name: str) -> None:
    for way in SAMPLED:
        found = ct.ask(WRONG[name].offering([way]), problem(), BY_DRAWS)
        broken = [law for law, error in found.items() if error]
        assert broken, way
        assert set(broken) <= set(BY_DRAWS[2:] if way == "sampled_kfac" else BY_DRAWS[:2])


@pytest.mark.parametrize("draws", [1, None, 5])
def test_who_draws_rightly_is_not_accused(draws: int | None) -> None:
    """Whatever the number of draws, that of a library which knows but one included."""
    found = ct.ask(sampling(draws=draws), problem())
    assert {*BY_DRAWS} < {*found}
    assert set(found.values()) == {None}


def test_of_what_is_far_off_it_is_said_how_far() -> None:
    found = ct.ask(sampling(times=3.0), problem(), ["sampled trace"])
    says = re.match(
        r"sampled_ekfac, layer '0': tr F is ([\d.]+) times", str(found["sampled trace"])
    )
    assert says is not None
    assert abs(float(says[1]) - 9) < 0.5  # labels are drawn


def test_a_mixture_of_right_answers_has_no_wrong_input_factor() -> None:
    """K^ of a right B^ and of an A that is off by a thousandth, which no chance would show."""
    right = RIGHT.sampled_kfac

    def slightly(question: ek.Problem) -> dict[str, object]:
        return {
            name: replace(K, A=K.A + 1e-3 * torch.eye(len(K.A)).double())
            for name, K in right(question).items()
        }

    for ask, broken in ((right, []), (slightly, ["sampled kfac"])):
        found = ct.ask(ct.Subject("k", sampled_kfac=ask), problem(), BY_DRAWS)
        assert [law for law, error in found.items() if error] == broken


@pytest.mark.parametrize("only", [True, False])
def test_thousands_of_draws_are_asked_for_in_the_full_profile_or_of_one_without_another_answer(
    only: bool,
) -> None:
    sizes: list[int] = []

    def watched(question: ek.Problem) -> dict[str, object]:
        sizes.append(sum(len(y) for _, y in question.batches))
        return dict(RIGHT.sampled_fisher(question))

    can = replace(sampling().abilities, likelihoods=(ek.Gaussian,), dtypes=(torch.float64,))
    subject = ct.Subject("both", ek.ekfac, sampled_fisher=watched, abilities=can)
    subject = subject.offering(["sampled_fisher"]) if only else subject
    for profile in (FEW, replace(FEW, draws=True)):
        sizes.clear()
        report = ct.check(subject, profile, laws=["leaves alone", *BY_DRAWS])
        found = {v.law.name: v.status for v in report.verdicts}
        asked = profile.draws or only
        assert (max(sizes) > 1000) is asked
        expected = ct.Status.PASS if asked else ct.Status.NOT_OFFERED
        assert found["sampled trace"] is found["sampled forms"] is expected
        assert found["sampled factor"] is ct.Status.NOT_OFFERED
        assert report.exit_code == 0


def test_another_process_hears_whether_it_only_draws() -> None:
    for subject, only in ((sampling(), True), (replace(sampling(), ekfac=ek.ekfac), False)):
        there = Here(subject).draw(2, seed=0)
        assert there.only_draws is drawn_from(drawn_as_plain(there)).only_draws is only


def leaving(what: Callable[[nn.Module], object]) -> ct.Subject:
    def ask(question: ek.Problem) -> dict[str, object]:
        what(question.model)
        return dict(RIGHT.sampled_fisher(question))

    return ct.Subject("careless", sampled_fisher=ask)


def test_its_generators_may_move_and_nothing_else() -> None:
    laws, question = ["leaves alone"], problem()
    before, moving = torch.get_rng_state(), leaving(lambda model: torch.rand(1))
    assert ct.ask(moving, question, laws) == {"leaves alone": None}
    assert torch.equal(torch.get_rng_state(), before)
    found = ct.ask(leaving(lambda model: model.eval()), question, laws)
    assert "sampled_fisher, module '' values: changed" in str(found["leaves alone"])


def test_what_cannot_be_answered_is_not_drawn_for() -> None:
    def silent(question: ek.Problem) -> dict[str, object]:
        if not isinstance(question.fisher, ek.Sampled):
            raise ValueError("not what it is asked for")
        try:
            return dict(RIGHT.sampled_fisher(question))
        except ek.ProblemError:
            return {}

    for ask, refuses in ((silent, False), (RIGHT.sampled_fisher, True)):
        found = ct.ask(ct.Subject("s", sampled_fisher=ask), problem(), ["nan", "unknown layer"])
        assert [error is None for error in found.values()] == [refuses, refuses]


def test_an_answer_that_differs_every_time_is_not_held_against_itself() -> None:
    offered = {law.name for law in ct.LAWS.values() if law.offered(Trial(sampling(), problem()))}
    assert offered == {*BY_DRAWS, "leaves alone", "nan", "unknown layer", "batch norm"}
