"""A KFAC or exact blocks, and nothing else: judged by what they are, and told what was not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.declared.damping import Factored
from ekfac_ref.conformance.diagnosis import selection
from ekfac_ref.conformance.laws.law import Lane
from tests.support.partial_subjects import (
    FEW,
    LINEAR,
    Stale,
    apart,
    broken,
    by_batch,
    each_block,
    factored,
    problem,
    solving,
    summed,
    without_nan,
)

pytestmark = pytest.mark.usefixtures("mixed")
OF_E = {law.name for law in ct.LAWS.values() if law.lane in {Lane.EKFAC, Lane.BASIS}}
FACTORED = ct.Definition(damping=Factored())
SOLVES = {"solve 1", "solve 1e-06"}


def kfac(ask: Any, **declared: Any) -> ct.Subject:
    return ct.Subject("mine", kfac=ask, **declared)


@pytest.mark.parametrize(
    ("subject", "lanes"),
    [
        (kfac(ek.kfac), {Lane.KFAC, Lane.FACTORS}),
        (ct.Subject("mine", exact_fisher=ek.exact_fisher), {Lane.FISHER}),
    ],
    ids=["KFAC", "exact blocks"],
)
def test_a_right_one_conforms_and_what_it_does_not_have_is_told(
    subject: ct.Subject, lanes: set[Lane]
) -> None:
    report = ct.check(subject, FEW)
    assert report.exit_code == 0
    status = {verdict.law.name: verdict.status for verdict in report.verdicts}
    left_out = {name for name, how in status.items() if how is ct.Status.NOT_OFFERED}
    lanes |= {Lane.SUBJECT, Lane.ANY, Lane.SAME, Lane.OPAQUE, Lane.SOLVE}
    assert left_out == {law.name for law in ct.LAWS.values() if law.lane not in lanes}
    held = {"linear", "symmetry", "psd", "doubled", "no memory", "leaves alone", "nan", "solve 1"}
    assert {status[name] for name in held} == {ct.Status.PASS}


@pytest.mark.parametrize(
    ("ask", "laws"),
    [
        (apart, {"kfac", "factors"}),
        (summed, {"kfac", "factors", "doubled"}),
        (by_batch, {"kfac", "recut", "order"}),
        (without_nan, {"nan"}),
        (Stale(), {"no memory"}),
        (solving(lambda block, V, damping: V), SOLVES),
        (solving(lambda block, V, damping: block.solve(V, damping=2 * damping)), SOLVES),
        (solving(factored), SOLVES),
        (each_block(lambda b: ek.Kronecker(b.B.triu(), b.A)), {"symmetry", "kfac", "factors"}),
        (each_block(lambda b: ek.Kronecker(-b.B, -b.A)), {"factors"}),
        (each_block(lambda b: SimpleNamespace(matvec=b.matvec, A=b.A, B=2 * b.B)), {"factors"}),
    ],
    ids=[
        "apart",
        "summed",
        "batches",
        "nan",
        "memory",
        "no-solve",
        "twice",
        "factored",
        "triangle",
        "negative",
        "2B",
    ],
)
@pytest.mark.parametrize("beside", [{}, {"ekfac": ek.ekfac}], ids=["alone", "beside an EKFAC"])
def test_a_wrong_kfac_is_judged_as_if_there_were_no_ekfac(
    ask: Any, laws: set[str], beside: dict[str, Any]
) -> None:
    found = broken(kfac(ask, **beside))
    assert laws <= found
    assert not found & OF_E


def test_a_message_says_which_answer_it_is_about() -> None:
    subject = kfac(solving(lambda block, V, damping: V), ekfac=ek.ekfac)
    assert str(ct.ask(subject, problem(), ["solve 1"])["solve 1"]).startswith("kfac, (M + ")


def test_a_scalar_may_sit_in_either_factor() -> None:
    assert not broken(kfac(each_block(lambda b: ek.Kronecker(b.B / 7, b.A * 7))))


def test_factors_of_another_shape_are_no_answer() -> None:
    bad = each_block(lambda b: SimpleNamespace(matvec=b.matvec, A=b.B, B=b.A))
    with pytest.raises(ct.BadAnswer, match=r"B and A have shapes \[3, 3\] .*expected \[d_out"):
        ct.ask(kfac(bad), problem(), ["factors"])


@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])
def test_factored_damping_is_a_declared_convention(sharing: Any) -> None:
    question = problem(sharing=sharing)
    mine = solving(factored)
    assert not broken(kfac(mine, definition=FACTORED), question)
    assert broken(kfac(mine), question) == SOLVES
    # What is declared excuses nothing: Tikhonov's is now as wrong, and so is one without pi.
    assert broken(kfac(ek.kfac, definition=FACTORED), question) == SOLVES
    no_pi = solving(lambda *given: factored(*given, power=0.0))
    assert broken(kfac(no_pi, definition=FACTORED), question) == SOLVES
    # A scalar between the factors is taken up by pi.
    split = solving(lambda block, *given: factored(ek.Kronecker(block.B / 7, block.A * 7), *given))
    assert not broken(kfac(split, definition=FACTORED), question)


def test_factored_damping_asks_nothing_where_there_is_no_pi() -> None:
    model = nn.Linear(2, 3, bias=False).double()
    zeros = ek.Problem(
        model, [(torch.zeros(2, 2).double(), torch.zeros(2).long())], ek.Categorical()
    )
    definition = FACTORED
    found = ct.ask(kfac(ek.kfac, definition=definition), zeros, ["solve 1"])
    assert found == {}


def test_factored_preconditioning_beside_a_kfac() -> None:
    def by_factors(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        return {name: factored(ek.kfac(problem)[name], X, damping) for name, X in V.items()}

    right = kfac(ek.kfac, precondition=by_factors, definition=FACTORED)
    assert "precondition" not in broken(right)
    assert "precondition" in broken(replace(right, definition=ct.Definition()))


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (apart, "Its KFAC: it looks as if the implementation gives"),
        (summed, "Its KFAC: it is right up to a factor: times 1 / N."),
        (
            solving(lambda block, V, damping: V),
            "Its KFAC's solve: it looks as if the implementation returns V (right: the solution)",
        ),
    ],
    ids=["apart", "summed", "solve"],
)
def test_the_diagnosis_is_about_kfac(ask: Any, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (9,))
    assert ct.diagnose(kfac(ask, abilities=LINEAR)).sentence.startswith(says)


def test_where_the_ekfac_agrees_kfac_and_blocks_are_compared(monkeypatch: Any) -> None:
    monkeypatch.setattr(selection, "DRAWS", (9,))
    right = ct.Subject("it", ek.ekfac, ek.kfac, ek.exact_fisher, abilities=LINEAR)
    agree = "Its EKFAC and KFAC and exact block agree with the definition."
    assert ct.diagnose(right).sentence.startswith(agree)
    wrong = replace(right, kfac=summed)
    assert ct.diagnose(wrong).sentence.startswith("Its KFAC: it is right up to a factor")
    twice = replace(
        right, exact_fisher=lambda p: {n: F.scaled(2.0) for n, F in right.exact_fisher(p).items()}
    )  # type: ignore[misc]
    assert ct.diagnose(twice).sentence.startswith("Its exact block: it is right up to a factor: ti")


def test_something_to_ask_is_needed() -> None:
    with pytest.raises(ek.ProblemError, match="no way to ask it anything; give one or more of ekf"):
        ct.Subject("empty")
    with pytest.raises(ek.ProblemError, match=r"method ekfac, or with one of the others: kfac, ex"):
        ct.as_subject(object(), "nothing")


def test_an_object_may_have_any_of_the_methods() -> None:
    class Mine:
        kfac = staticmethod(ek.kfac)

    assert ct.as_subject(Mine(), "mine").ways == ("kfac",)
    assert ct.as_subject(ek.kfac, "a function").ways == ("ekfac",)
