"""Layers of any size on trial: right answers hold, wrong ones are noticed."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Eigen, adapted
from ekfac_ref.conformance.mutants.recipe import CORRECT
from ekfac_ref.conformance.own_model.laws.catalogue import OWN_LAWS
from ekfac_ref.conformance.own_model.laws.examined import Examined
from ekfac_ref.conformance.own_model.laws.readings import left_to_chance, read_eigenvalues, signs
from ekfac_ref.conformance.own_model.measured import replays, sums
from ekfac_ref.conformance.own_model.measured.measure import Measured
from ekfac_ref.conformance.own_model.own_run import ASKABLE
from ekfac_ref.conformance.own_model.trial import OwnTrial
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import mixtures
from ekfac_ref.conformance.subjects.own import Own
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.observation import observe
from ekfac_ref.conformance.truth.tolerance import LIMIT, LawBroken
from ekfac_ref.examples import hooks, reference
from ekfac_ref.matrix import pieces
from ekfac_ref.model import session, sizes
from ekfac_ref.model.session import open_session
from ekfac_ref.model.tapped import tapped
from studies.numerics import ordinary
from studies.own_model.models import GPT, resnet, transformer
from tests.kit.test_ordinary_arithmetic import posed

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
BOTH = Abilities(dtypes=(torch.float64, torch.float32))


def ratios(subject: ct.Subject, problem: ek.Problem) -> dict[tuple[str, str], float]:
    """{(law, block): the largest ratio to rounding}; raises where a law is broken."""
    trial = OwnTrial(subject, problem)
    found: dict[tuple[str, str], float] = {}
    for one in trial.examined(trial.measured()):
        for name, law in OWN_LAWS.items():
            if law.offered(one):
                weighed = [w.ratio for w in law.judge(one)]
                found[name, one.known.part.title] = max(weighed, default=0.0)
    assert not trial.changes
    return found


def net(dtype: torch.dtype = torch.float64, **choices: Any) -> ek.Problem:
    """Groups, tokens and a head, three layers that differ in all that matters here."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(4, 6, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(24, 9), nn.Linear(9, 4)
    ).to(dtype)
    x, y = torch.randn(20, 4, 6, dtype=dtype), torch.randint(4, (20,))
    batches = [(x[:13], y[:13]), (x[13:], y[13:])]
    return ek.Problem(model, batches, ek.Categorical(), ek.Empirical(), **choices)


@pytest.mark.parametrize("seed", [0, 1])
def test_right_answers_hold_on_drawn_problems(seed: int) -> None:
    for problem in mixtures(BOTH, 5, seed):
        assert max(ratios(reference, problem).values()) <= LIMIT


def test_right_answers_in_ordinary_arithmetic_hold() -> None:
    for subject in ordinary.SUBJECTS[::3]:
        for problem in mixtures(subject.abilities, 3, seed=3):
            assert max(ratios(subject, problem).values()) <= LIMIT


@pytest.mark.parametrize("at_once", [1, 1500, 2**20])
def test_samples_and_columns_in_pieces_are_the_same(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where Exact() has a column for every word at every position."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 7)).double()
    x, y = torch.randn(5, 4, 5).double(), torch.randint(7, (5, 4))
    batches = [(x[:3], y[:3]), (x[3:, :2], y[3:, :2])]
    problem = ek.Problem(model, batches, ek.Categorical(class_axis=-1))
    whole = OwnTrial(reference, problem).measured()
    for module in (session, sizes):
        monkeypatch.setattr(module, "FEW_COLUMNS", 8)
    monkeypatch.setattr(sums, "CHUNK_BYTES", 4 * 10 * at_once)
    by_terms = tapped(open_session(problem, partial(replays._ByTerms, 1.0)), 10 * at_once)
    columns = sum(tap["0"][0].g.shape[:2].numel() for _, tap in by_terms)
    assert columns == 3 * (4 * 7 + 1) + 2 * (2 * 7 + 1)
    monkeypatch.setattr(pieces, "AT_ONCE", at_once)
    assert max(ratios(reference, problem).values()) <= LIMIT
    for one, other in zip(whole, OwnTrial(reference, problem).measured(), strict=True):
        for name in ("A", "B"):
            assert torch.allclose(*(getattr(m, name).values for m in (one, other)), rtol=1e-9)
        assert torch.allclose(one.Lambda, other.Lambda, atol=1e-12)
        assert (one.samples, one.columns) == (other.samples, other.columns)
        assert other.off == pytest.approx(one.off, rel=0.5)
        assert other.lengths == one.lengths


@pytest.mark.parametrize(
    "definition", [ct.Definition(bias=ct.Separate()), ct.Definition(A=ct.Shared())]
)
def test_other_definitions_are_right_too(definition: ct.Definition) -> None:
    other = replace(CORRECT, definition=definition)
    subject = ct.Subject("other", other.ekfac, definition=definition)
    for sharing in (ek.Expand(), ek.Reduce()):
        assert max(ratios(subject, net(sharing=sharing)).values()) <= LIMIT
    with pytest.raises(LawBroken):
        ratios(replace(subject, definition=ct.Definition()), net())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_where_all_terms_cancel_rounding_is_no_mistake(dtype: torch.dtype) -> None:
    for name, fisher in (
        ("opposites", ek.Exact()),
        ("opposites", ek.Empirical()),
        ("twice", ek.Exact()),
    ):
        found = ratios(ordinary.SUBJECTS[4], posed(name, fisher, dtype))
        assert max(found.values()) <= LIMIT


@pytest.mark.parametrize("how", [ct.OnKFAC(), ct.Factored()])
def test_a_preconditioner_alone_is_judged_by_the_definition(how: Any) -> None:
    def solve(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
        blocks = ek.kfac(problem)
        if isinstance(how, ct.OnKFAC):
            return {name: blocks[name].solve(x, damping=damping) for name, x in V.items()}
        return {name: factored(blocks[name], x, damping) for name, x in V.items()}

    def factored(block: Any, x: Tensor, damping: float) -> Tensor:
        pi = ((block.A.trace() / len(block.A)) / (block.B.trace() / len(block.B))) ** 0.5
        B = block.B + damping**0.5 / pi * torch.eye(len(block.B)).to(x)
        A = block.A + damping**0.5 * pi * torch.eye(len(block.A)).to(x)
        return torch.linalg.solve(B, torch.linalg.solve(A, x.T).T)

    problem = replace(net(), layers=("3", "4"))
    subject = ct.Subject("P", precondition=solve, definition=ct.Definition(damping=how))
    found = ratios(subject, problem)
    assert {law for law, _ in found} == {"precondition"}
    assert max(found.values()) <= LIMIT
    wrong = replace(subject, precondition=lambda p, V, d: solve(p, V, 1.1 * d))
    with pytest.raises(LawBroken):
        ratios(wrong, problem)


def test_a_preconditioner_of_ekfac_alone_is_judged_by_the_definition() -> None:
    alone = reference.offering(("precondition",))
    assert max(ratios(alone, net()).values()) <= LIMIT
    wrong = replace(alone, precondition=lambda p, V, d: reference.precondition(p, V, 2 * d))
    with pytest.raises(LawBroken):
        ratios(wrong, net())


def test_half_precision_is_no_mistake() -> None:
    assert max(ratios(reference, net(torch.bfloat16)).values()) <= LIMIT


@pytest.mark.shapes
def test_what_is_right_is_what_the_oracle_says() -> None:
    for problem in (net(), net(sharing=ek.Reduce()), *mixtures(BOTH, 6, seed=5)):
        trial = OwnTrial(reference, problem)
        seen = [one for groups in observe(problem, rounding=False).values() for one in groups]
        for known, one in zip(trial.measured(), seen, strict=True):
            B, A = oracle.factors(one)
            torch.testing.assert_close(known.B.factor, B, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(known.A.factor, A, rtol=1e-9, atol=1e-12)
            Lambda = oracle.eigenvalues(one, known.B.Q, known.A.Q)
            torch.testing.assert_close(known.Lambda, Lambda, rtol=1e-9, atol=1e-12)


def turned(d: int) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, dtype=torch.float64))[0]


def known_block(d_out: int = 3, d_in: int = 4) -> Measured:
    """A block of a trial, its A and B with so many eigenvalues."""
    torch.manual_seed(0)
    model = nn.Linear(d_in, d_out, bias=False).double()
    batches = [(torch.randn(9, d_in).double(), torch.randn(9, d_out).double())]
    trial = OwnTrial(reference, ek.Problem(model, batches, ek.Gaussian(), ek.Empirical()))
    return trial.measured()[0]


@pytest.mark.shapes
def test_one_product_reads_every_eigenvalue() -> None:
    known = known_block()
    M = SimpleNamespace(matvec=known.product)
    reading = read_eigenvalues(Own(M, "", known.part.shape), known, seed=1)
    assert (reading.values - known.Lambda).abs().max() < 1e-13 * known.size
    assert abs(reading.square - known.size**2) < 1e-12 * known.size**2


def test_the_variance_beside_simple_eigenvalues_is_as_derived() -> None:
    """By all 2^5 signs: Var s^T M s = 2 sum_{i != j} M_ij^2, which the spectrum of F bounds."""
    torch.manual_seed(0)
    G = torch.randn(4, 5, dtype=torch.float64)
    F = G.T @ G / 4
    R = turned(5)
    M = R @ torch.diag((R.T @ F @ R).diagonal()) @ R.T
    every = torch.tensor(list(product((-1.0, 1.0), repeat=5)), dtype=torch.float64)
    values = torch.einsum("ki,ij,kj->k", every, M, every)
    off = M - torch.diag(M.diagonal())
    assert values.mean().sub(F.trace()).abs() < 1e-12
    variance = values.var(correction=0)
    assert variance.sub(2 * (off**2).sum()).abs() < 1e-12
    assert variance <= 2 * ((F**2).sum() - F.trace() ** 2 / 5)
    weighed = torch.tensor([3.0, 1.0, 2.0, 0.5, 1.5]).double()
    by_weight = torch.einsum("ki,ij,kj->k", every * weighed.sqrt(), M, every * weighed.sqrt())
    expected = 2 * (torch.outer(weighed, weighed) * off**2).sum()
    assert by_weight.var(correction=0).sub(expected).abs() < 1e-12


def test_signs_of_neighbours_leave_nothing_to_chance() -> None:
    S = signs((3, 4), seed=2).flatten(1)
    at = torch.arange(12).reshape(3, 4)
    for i, j in [(at[0, 0], at[0, 1]), (at[0, 0], at[1, 0]), (at[1, 2], at[2, 3])]:
        assert (S[:, i] * S[:, j]).sum() == 0
    assert left_to_chance(known_block()).sum() == 0


def equal_eigenvalues() -> tuple[ek.Problem, Callable[[ek.Problem], Any]]:
    """A = B = I up to scale, and an EKFAC in a basis at random: as right as any other."""
    torch.manual_seed(0)
    model = nn.Linear(4, 4, bias=False).double()
    with torch.no_grad():
        model.weight.zero_()
    R = turned(4)
    x, y = torch.cat([turned(4)] * 4), torch.cat([R[[k]].expand(4, 4) for k in range(4)])
    problem = ek.Problem(model, [(x, y)], ek.Gaussian(), ek.Empirical())
    Q_B, Q_A = turned(4), turned(4)

    def answer(problem: ek.Problem) -> dict[str, Any]:
        (G,) = (x[""] for x in ek.per_sample_gradients(problem))
        return {"": Eigen(Q_B, Q_A, (Q_B.T @ G @ Q_A).square().sum(1).mean(0))}

    return problem, adapted(answer)


def test_inside_of_equal_eigenvalues_every_basis_is_right() -> None:
    problem, answer = equal_eigenvalues()
    for kind in (answer, lambda p: opaque(answer(p))):
        assert max(ratios(ct.Subject("turned", kind), problem).values()) <= LIMIT


def opaque(blocks: Any) -> dict[str, Any]:
    return {name: SimpleNamespace(matvec=block.matvec) for name, block in blocks.items()}


# {law: what breaks it, in the operator or in what it shows}.
def scaled(E: Any) -> Any:
    return E.scaled(1.02)


def shuffled(E: Any) -> Any:
    return replace(E, eigenvalues=E.eigenvalues.reshape(-1).flip(0).reshape(E.eigenvalues.shape))


def negative(E: Any) -> Any:
    return E.scaled(-1.0)


def bent(E: Any) -> Any:
    return SimpleNamespace(matvec=lambda V: E.matvec(V).abs())


def lopsided(E: Any) -> Any:
    return SimpleNamespace(matvec=lambda V: E.matvec(V) + 0.1 * E.matvec(V).roll(1, 0))


def oblique(E: Any) -> Any:
    return replace(E, Q_A=E.Q_A @ turned(E.Q_A.shape[1]).to(E.Q_A))


def skewed(E: Any) -> Any:
    return replace(E, Q_B=1.01 * E.Q_B)


def with_a_kernel(E: Any) -> Any:
    return SimpleNamespace(matvec=lambda V: E.matvec(V) + 0.1 * E.eigenvalues.max() * V)


def damped_twice(E: Any) -> Any:
    return SimpleNamespace(
        matvec=E.matvec, solve=lambda V, damping: E.solve(V, damping=2 * damping)
    )


def careless(E: Any) -> Any:
    return SimpleNamespace(matvec=lambda V: V.copy_(E.matvec(V)))


BREAKS: dict[str, Callable[[Any], Any]] = {
    "linear": bent,
    "own answers": careless,
    "symmetry": lopsided,
    "psd": negative,
    "trace": scaled,
    "commutes": oblique,
    "moments": shuffled,
    "spectrum": shuffled,
    "self-projection": scaled,
    "kernel": with_a_kernel,
    "comparison": oblique,
    "orthonormal basis": skewed,
    "eigenbasis": oblique,
    "eigenvalues": shuffled,
    "solve": damped_twice,
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("law", BREAKS)
def test_every_law_notices_what_breaks_it(law: str, dtype: torch.dtype) -> None:
    problem = replace(net(dtype), layers=("3",))  # 24 inputs for 20 samples: a null space

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        return {name: BREAKS[law](E) for name, E in ek.ekfac(problem).items()}

    report = ct.check_on(wrong, problem, laws=[law])
    assert report.exit_code == 1
    assert [v.law.name for v in report.verdicts if v.status is ct.Status.FAIL] == [law]


def in_another_basis(problem: ek.Problem) -> dict[str, Any]:
    """Semidefinite, with the trace and the eigenvalues of the right one."""
    torch.manual_seed(1)
    return {name: oblique(E) for name, E in ek.ekfac(problem).items()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("wrong", [ek.exact_fisher, in_another_basis])
def test_a_wrong_answer_is_not_accused_of_what_it_has_right(wrong: Any, dtype: torch.dtype) -> None:
    problem = replace(net(dtype), layers=("3", "4"))
    right = {"psd", "trace", "symmetry", "linear", "solve"}
    right |= {"self-projection"} if wrong is ek.exact_fisher else set()
    for seed in range(4):
        verdicts = ct.check_on(wrong, problem, seed=seed).verdicts
        broken = {v.law.name for v in verdicts if v.status is ct.Status.FAIL}
        assert {"commutes", "spectrum"} <= broken
        assert not broken & right


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("bare", [False, True], ids=["shown", "opaque"])
def test_one_negative_eigenvalue_is_noticed(bare: bool, dtype: torch.dtype) -> None:
    """A hundredth of the largest, at an entry whose eigenvalue is simple."""

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem)
        Lambda = blocks["4"].eigenvalues.clone()
        Lambda[-1, -2] = -0.01 * Lambda.max()
        blocks["4"] = replace(blocks["4"], eigenvalues=Lambda)
        return opaque(blocks) if bare else blocks

    (verdict,) = ct.check_on(wrong, replace(net(dtype), layers=("3", "4")), laws=["psd"]).verdicts
    assert verdict.broken.startswith("4: <V, E V> >= 0")


def test_lengths_and_directions_of_eigenvectors_are_laws_of_their_own() -> None:
    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem).items()
        return {name: replace(E, Q_B=1e3 * E.Q_B) for name, E in blocks}

    laws = ["orthonormal basis", "eigenbasis"]
    verdicts = ct.check_on(wrong, replace(net(), layers=("3",)), laws=laws).verdicts
    assert {v.law.name: v.status for v in verdicts} == {
        "orthonormal basis": ct.Status.FAIL,
        "eigenbasis": ct.Status.PASS,
    }


def test_an_inverse_that_fits_a_negative_matrix_is_no_inverse_of_a_curvature() -> None:
    """Its residual is rounding: <v, solve(v)> alone tells."""
    problem = replace(net(), layers=("3",))

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        c = 1e6
        minus = SimpleNamespace(matvec=lambda V: -c * V, solve=lambda V, damping: V / (damping - c))
        return dict.fromkeys(ek.ekfac(problem), minus)

    (verdict,) = ct.check_on(wrong, problem, laws=["solve"]).verdicts
    assert "<v, solve(v)> > 0: it is not positive" in verdict.broken


def test_every_law_is_broken_by_something() -> None:
    others = {"kfac", "factors", "precondition", "leaves alone"}
    assert {*BREAKS} | others == {*ASKABLE}


def test_a_kfac_alone_is_judged_by_its_factors() -> None:
    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.kfac(replace(problem, layers=("3", "4")))
        return {name: replace(K, A=K.A + 0.01 * K.A.diag().diag()) for name, K in blocks.items()}

    problem = replace(net(), layers=("3", "4"))
    right = ct.Subject("right", kfac=ek.kfac)
    assert {law for law, _ in ratios(right, problem)} >= {"kfac", "factors", "solve", "linear"}
    report = ct.check_on(replace(right, kfac=wrong), problem)
    broken = {v.law.name for v in report.verdicts if v.status is ct.Status.FAIL}
    assert broken == {"kfac", "factors"}


def mutated(name: str, problem: ek.Problem, bare: bool) -> list[Examined]:
    trial = OwnTrial(ct.MUTANTS[name].subject.offering(("ekfac",)), problem)
    if bare:
        ask = trial.subject.ekfac
        trial.subject = ct.Subject("bare", lambda p: opaque(ask(p)))
    return trial.examined(trial.measured())


@pytest.mark.parametrize("bare", [False, True], ids=["shown", "opaque"])
@pytest.mark.parametrize(
    "name",
    ["half-lambda", "twice", "square-each-position", "basis-of-the-first-batch", "variance"],
)
def test_mutants_are_noticed_in_float32(name: str, bare: bool) -> None:
    for problem in (net(torch.float32), net(torch.float32, sharing=ek.Reduce())):
        noticed = 0
        for one in mutated(name, problem, bare):
            for law in OWN_LAWS.values():
                try:
                    noticed += law.offered(one) and not [*law.judge(one)]
                except LawBroken:
                    noticed += 1
        assert noticed


def test_networks_as_one_meets_them() -> None:
    report = ct.check_on(hooks, transformer(4, 6, model=GPT(20, 16, 1, 6)))
    assert (report.exit_code, report.answered) == (0, 5)
    assert max(v.worst for v in report.verdicts) <= LIMIT
    exact = ct.check_on(reference, resnet(samples=4, size=4))
    assert exact.exit_code == 0
    assert max(v.worst for v in exact.verdicts) <= LIMIT


@pytest.mark.shapes
def test_every_law_has_something_to_say() -> None:
    report = ct.check_on(reference, replace(net(), layers=("3",)))
    assert {v.law.name for v in report.verdicts if v.asked} == {*ASKABLE}


class Spectral(nn.Module):
    """A real layer beside complex numbers that are not asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.waves = nn.Parameter(torch.randn(4, dtype=torch.complex64))
        self.register_buffer("shift", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.linear = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.fft.rfft(self.linear(x)) * self.waves * self.shift
        return torch.fft.irfft(y, n=6)


def test_complex_numbers_keep_their_imaginary_parts_in_other_dtypes() -> None:
    torch.manual_seed(0)
    data = [(torch.randn(4, 6), torch.randn(4, 6)), (torch.randn(3, 6), torch.randn(3, 6))]
    report = ct.check_on(ek.ekfac, ek.Problem(Spectral(), data, ek.Gaussian(), layers=("linear",)))
    assert report.summary.startswith("It conforms")
