"""A diagonal, per-sample gradients, a product with the Fisher of all layers: each alone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.diagnosis import selection
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS, perturbed
from ekfac_ref.conformance.subjects.trial import Trial
from tests.support.partial_subjects import LINEAR, once, problem

pytestmark = pytest.mark.usefixtures("mixed")
FEW = ct.Profile("few", problems=6, shrink_seconds=0.2)
chunks_of = once(lambda question: list(ek.per_sample_gradients(question)))
EMPIRICAL = problem(fisher=ek.Empirical())


def gradients(question: ek.Problem) -> dict[str, Tensor]:
    chunks = chunks_of(question)
    return {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}


def diagonal(question: ek.Problem) -> dict[str, Tensor]:
    return {name: (G**2).sum(1).mean(0) for name, G in gradients(question).items()}


def product(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    G = gradients(question)
    inner = sum(torch.einsum("ncoi,oi->nc", G[name], V[name]) for name in V)
    return {n: torch.einsum("nc,ncoi->oi", inner, G[n]) / len(inner) for n in V}


def ggn(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    """J^T H J V of Linear layers by autograd alone, H the Hessian of the loss at the outputs."""
    x = torch.cat([x for x, _ in question.batches])
    names, tangents = [], []
    for name, X in V.items():
        layer = question.model.get_submodule(name)
        names += [f"{name}.weight"] + [f"{name}.bias"] * (layer.bias is not None)
        tangents += [X[:, :-1], X[:, -1]] if layer.bias is not None else [X]
    parameters = {name: p.detach() for name, p in question.model.named_parameters()}
    moving = [parameters[name] for name in names]

    def outputs(*p: Tensor) -> Tensor:
        given = parameters | dict(zip(names, p, strict=True))
        return torch.func.functional_call(question.model, given, (x,))

    f, Jv = torch.func.jvp(outputs, tuple(moving), tuple(tangents))
    p = f.softmax(1)
    HJv = p * Jv - p * (p * Jv).sum(1, keepdim=True)
    pulled = iter(torch.func.vjp(outputs, *moving)[1](HJv / len(x)))
    found = {}
    for name in V:
        weight = next(pulled)
        bias = question.model.get_submodule(name).bias
        found[name] = weight if bias is None else torch.cat([weight, next(pulled)[:, None]], 1)
    return found


RIGHT = {
    "diagonal": ct.Subject("d", diagonal=diagonal),
    "gradients": ct.Subject("g", per_sample_gradients=gradients),
    "in chunks": ct.Subject("g", per_sample_gradients=ek.per_sample_gradients),
    "product": ct.Subject("p", fisher_product=product),
}
OWN = {
    "diagonal": {"diagonal"},
    "gradients": {"sample gradients", "mean gradient"},
    "in chunks": {"sample gradients", "mean gradient"},
    "product": {"network", "network linear", "network symmetric"},
}
MANNERS = {"recut", "order", "doubled", "no memory", "leaves alone", "after an exception"}
MANNERS |= {"nan", "unknown layer"}


def broken(one: ct.Subject, laws: Any = None, question: ek.Problem = EMPIRICAL) -> set[str]:
    return {name for name, error in ct.ask(one, question, laws).items() if error is not None}


@pytest.mark.parametrize("what", RIGHT)
def test_a_right_one_conforms_and_is_asked_no_more_than_it_has(what: str) -> None:
    few = set(ct.LAWS) - {"mean gradient"}  # of the empirical Fisher, which few problems have
    report = ct.check(RIGHT[what], FEW, laws=few)
    assert report.exit_code == 0
    asked = {v.law.name for v in report.verdicts if v.status is ct.Status.PASS}
    assert asked == (OWN[what] & few) | MANNERS | {"labels", "padding", "batch norm"}
    rest = {v.status for v in report.verdicts if v.law.name not in asked}
    assert rest == {ct.Status.NOT_OFFERED}


def test_a_ggn_by_autograd_alone_is_the_exact_fisher_of_all_layers() -> None:
    laws = ["network", "network linear", "network symmetric", "recut", "order", "labels"]
    assert broken(ct.Subject("ggn", fisher_product=ggn), laws, problem()) == set()
    assert "network" in broken(ct.Subject("ggn", fisher_product=ggn), laws)  # labels: Empirical


def mixed(question: ek.Problem) -> dict[str, Tensor]:
    """Columns in an orthogonal mixture, of every sample another one."""
    found = {}
    generator = torch.Generator().manual_seed(0)
    G = gradients(question)
    N, C = next(iter(G.values())).shape[:2]
    Q = torch.linalg.qr(torch.randn(N, C, C, generator=generator).double())[0]
    for name, of_layer in G.items():
        found[name] = torch.einsum("ncd,ncoi->ndoi", Q, of_layer)
    return found


def test_columns_may_be_mixed_but_not_those_of_the_empirical_fisher() -> None:
    one = ct.Subject("mixed", per_sample_gradients=mixed)
    assert broken(one, ["sample gradients"], problem()) == set()
    negative = ct.Subject(
        "-", per_sample_gradients=lambda p: {n: -G for n, G in gradients(p).items()}
    )
    assert broken(negative, ["sample gradients", "mean gradient"]) == OWN["gradients"]


def each(change: Any) -> Any:
    return lambda question: {name: change(G) for name, G in gradients(question).items()}


def blocks_alone(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: product(question, {name: X})[name] for name, X in V.items()}


def twice(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: 2 * x for name, x in product(question, V).items()}


@pytest.mark.parametrize(
    ("wrong", "laws"),
    [
        ({"diagonal": each(lambda G: G.sum(1).mean(0) ** 2)}, {"diagonal"}),
        ({"diagonal": each(lambda G: (G**2).sum(1).sum(0))}, {"diagonal", "doubled"}),
        ({"diagonal": each(lambda G: G.abs().sum(1).mean(0))}, {"diagonal"}),
        ({"per_sample_gradients": each(lambda G: G / len(G))}, OWN["gradients"]),
        ({"per_sample_gradients": each(lambda G: G - G.mean(0))}, OWN["gradients"]),
        ({"per_sample_gradients": each(lambda G: G.flip(0))}, {"sample gradients"}),
        (
            {"fisher_product": lambda p, V: {n: product(p, {n: X})[n] for n, X in V.items()}},
            {"network"},
        ),
        (
            {"fisher_product": lambda p, V: {n: 2 * x for n, x in product(p, V).items()}},
            {"network"},
        ),
    ],
    ids=[
        *("of the mean", "sum", "absolute", "mean loss", "centred", "reversed"),
        *("blocks alone", "twice"),
    ],
)
def test_a_wrong_one_is_noticed(wrong: dict[str, Any], laws: set[str]) -> None:
    assert laws <= broken(ct.Subject("wrong", **wrong), [*laws, "linear"])


def test_the_manners_of_a_product() -> None:
    def one_sided(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
        last = list(V)[-1]
        found = product(question, V)
        return found | {last: found[last] + sum(float(X.sum()) for X in V.values())}

    def clipped(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: x.clamp(-0.1, 0.1) for name, x in product(question, V).items()}

    def minus(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: -x for name, x in product(question, V).items()}

    def over_V(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
        found = product(question, V)
        return {name: V[name].copy_(x) for name, x in found.items()}

    for ask, law in (
        (one_sided, "network symmetric"),
        (clipped, "network linear"),
        (minus, "network symmetric"),
        (over_V, "leaves alone"),
    ):
        assert law in broken(ct.Subject("wrong", fisher_product=ask), [law])


def test_manners_of_tensors() -> None:
    def quiet(question: ek.Problem) -> dict[str, Tensor]:
        batches = [(x.nan_to_num(), y) for x, y in question.batches]
        return diagonal(replace(question, batches=batches))

    def lazily(question: ek.Problem) -> Iterator[dict[str, Tensor]]:
        yield from ek.per_sample_gradients(question)

    class Stale:
        old: Any = None

        def __call__(self, question: ek.Problem) -> dict[str, Tensor]:
            fresh = diagonal(question)
            self.old, used = fresh, self.old or fresh
            return used

    assert broken(ct.Subject("quiet", diagonal=quiet), ["nan", "batch norm"]) == {"nan"}
    assert broken(ct.Subject("lazy", per_sample_gradients=lazily)) == set()
    assert broken(ct.Subject("stale", diagonal=Stale()), ["no memory"]) == {"no memory"}


def test_what_cannot_be_read_is_no_answer() -> None:
    for wrong, says in (
        (
            {"diagonal": each(lambda G: G.flatten(2).mean((0, 1)))},
            r"diagonal returned shape \[12\]",
        ),
        (
            {"per_sample_gradients": each(lambda G: G[1:])},
            r"returned shape \[6, 1, 4, 3\], expected \[N, C, d_out, d_in\] = \[7, C, 4, 3\]",
        ),
        ({"per_sample_gradients": each(lambda G: G.numpy())}, "a ndarray, not a tensor"),
    ):
        with pytest.raises(ct.BadAnswer, match=says):
            ct.ask(ct.Subject("wrong", **wrong), EMPIRICAL)


@pytest.mark.parametrize("what", ["diagonal", "gradients", "product"])
@pytest.mark.parametrize("kind", PERTURBATIONS[:3])
def test_an_error_put_in_on_purpose_is_noticed(what: str, kind: Any) -> None:
    law = ct.LAWS[sorted(OWN[what])[-1 if what == "gradients" else 0]]
    with pytest.raises(ct.LawBroken):
        list(law.ask(Trial(perturbed(RIGHT[what], kind, 0.1), EMPIRICAL)))


def test_the_diagnosis_of_a_diagonal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "DRAWS", (6,))
    few = [m for i, m in enumerate(ct.MUTANTS.values()) if i % 9 == 0 or m.exact_fisher]
    wrong = ct.Subject("it", diagonal=each(lambda G: G.mean(0).pow(2).sum(0)), abilities=LINEAR)
    right = replace(wrong, diagonal=diagonal)
    assert ct.diagnose(right, few).sentence.startswith("Its diagonal agrees with the definition.")
    sentence = ct.diagnose(wrong, few).sentence
    assert sentence.startswith("Its diagonal: it looks as if the implementation has the outer")
    assert nn.Linear in LINEAR.layers


def test_a_product_is_asked_with_all_layers_at_once() -> None:
    """Right as long as one layer has a V, and else the mean over layers in place of the sum."""

    def mean(question: ek.Problem, V: dict[str, Tensor]) -> dict[str, Tensor]:
        layers = sum(bool(v.any()) for v in V.values())
        return {name: x / max(layers, 1) for name, x in product(question, V).items()}

    laws = ["network", "network linear", "network symmetric"]
    found = ct.ask(ct.Subject("mean", fisher_product=mean), problem(), laws)
    assert "all layers at once" in str(found["network"])
    assert [law for law, error in found.items() if error] == ["network"]


def test_gradients_that_are_those_of_the_question_before_are_noticed() -> None:
    """In another order of the samples, and with the same diagonal, if beside one or not."""

    def late() -> Any:
        kept: list[dict[str, Tensor]] = []

        def answer(question: ek.Problem) -> dict[str, Tensor]:
            kept.append(gradients(question))
            return kept[-2:][0]

        return answer

    for beside in (None, diagonal):
        one = ct.Subject("late", per_sample_gradients=late(), diagonal=beside)
        assert ct.ask(one, EMPIRICAL, ["no memory"])["no memory"] is not None
