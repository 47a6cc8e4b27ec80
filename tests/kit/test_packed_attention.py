"""Query, key and value of torch's attention as one layer, where a subject declares that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import Factors, WithBias, adapted
from ekfac_ref.conformance.laws.replays import noise_limit
from ekfac_ref.conformance.mutants import trainer
from ekfac_ref.conformance.mutants.recipe import CORRECT, Recipe
from ekfac_ref.conformance.subjects.matrices import matrix_by_products
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth import oracle
from ekfac_ref.conformance.truth.cache import observed, observed_exactly
from ekfac_ref.model.layers import find_layers
from ekfac_ref.model.layers_of import in_projections

N, T, D, OUT = 4, 3, 2, 2
THREE = ("attention.q_proj", "attention.k_proj", "attention.v_proj")
IN = "attention.in_proj"
PACKED = ct.Definition(attention=ct.Packed())
BIAS = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
SHARING = pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])


class Attending(nn.Module):
    """Attention of tokens to themselves, or to others."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 1, bias=bias, batch_first=True)
        self.head = nn.Linear(D, OUT)

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        other = x if other is None else other
        y, _ = self.attention(x, other, other, need_weights=False)
        return torch.tanh(self.head(y)).sum(1)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def asked(bias: bool = True, others: bool = False, **choices: Any) -> ek.Problem:
    model = Attending(bias).double()
    with torch.no_grad():
        for k, parameter in enumerate(model.parameters()):
            parameter.copy_(numbers(*parameter.shape, seed=k))
    x, y = {"x": numbers(N, T, D)}, numbers(N, OUT)
    x |= {"other": numbers(N, T, D, seed=9)} if others else {}
    cuts = (slice(0, 2), slice(2, N))
    batches = [({name: v[cut] for name, v in x.items()}, y[cut]) for cut in cuts]
    return ek.Problem(model, batches, ek.Gaussian(), **{"layers": (*THREE, "head")} | choices)


# The layer by its formulas, from plain autograd on the model's own parameters: nothing of the kit.


@dataclass(frozen=True, eq=False)
class ByHand:
    """a [N, T, d_in], g [N, OUT, T, 3 D] and G [N, OUT, 3 D, d_in] of the packed layer."""

    a: Tensor
    g: Tensor
    G: Tensor
    expand: bool

    @property
    def factors(self) -> tuple[Tensor, Tensor]:
        a, g = (self.a, self.g) if self.expand else (self.a.mean(1), self.g.sum(2))
        a, g = a.reshape(-1, a.shape[-1]), g.reshape(-1, 3 * D)
        return g.T @ g / len(self.a), a.T @ a / len(a)

    @property
    def eigen(self) -> tuple[Tensor, Tensor, Tensor]:
        Q_B, Q_A = (torch.linalg.eigh(factor)[1] for factor in self.factors)
        return Q_B, Q_A, (Q_B.T @ self.G @ Q_A).square().sum((0, 1)) / len(self.a)

    @property
    def E(self) -> Tensor:
        Q_B, Q_A, Lambda = self.eigen
        Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
        return Q @ torch.diag(Lambda.flatten()) @ Q.T

    @property
    def K(self) -> Tensor:
        return torch.kron(*self.factors)

    @property
    def F(self) -> Tensor:
        v = self.G.flatten(0, 1).flatten(1)
        return v.T @ v / len(self.a)


def by_hand(problem: ek.Problem) -> ByHand:
    model: Any = problem.model
    x = torch.cat([inputs["x"] for inputs, _ in problem.batches])
    weight, bias = model.attention.in_proj_weight, model.attention.in_proj_bias
    parameters, found_g, found_G = [weight] if bias is None else [weight, bias], [], []
    for x_n in x:
        f = model(x_n[None])[0]
        s = F.linear(x_n, weight, bias)
        q, k, v = s.chunk(3, 1)
        attended = torch.softmax(q @ k.T / D**0.5, 1) @ v
        again = torch.tanh(model.head(model.attention.out_proj(attended))).sum(0)
        close(again, f)
        for c in range(OUT):
            of_c = torch.autograd.grad(f[c], parameters, retain_graph=True)
            found_G.append(torch.cat([gradient.reshape(3 * D, -1) for gradient in of_c], 1))
            found_g += torch.autograd.grad(again[c], s, retain_graph=True)
    a = x if bias is None else torch.cat([x, torch.ones_like(x[..., :1])], 2)
    g, G = (torch.stack(found).unflatten(0, (-1, OUT)) for found in (found_g, found_G))
    return ByHand(a, g, G, isinstance(problem.sharing, ek.Expand))


def close(x: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


@dataclass(frozen=True, eq=False)
class Whole:
    """A matrix, and nothing else."""

    matrix: Tensor

    def matvec(self, V: Tensor) -> Tensor:
        return (self.matrix @ V.flatten()).reshape(V.shape)


Change = Callable[[ByHand], Any]


def answering(E: Change = lambda known: ek.EigenKronecker(*known.eigen)) -> ct.Subject:
    """The packed layer by hand; the head, and what is to be refused, by the kit's own recipe."""
    ways: list[tuple[Callable[..., Any], Change]] = [
        (CORRECT.ekfac, E),
        (CORRECT.kfac, lambda known: ek.Kronecker(*known.factors)),
        (CORRECT.exact_fisher, lambda known: Whole(known.F)),
    ]

    def ask(recipe: Callable[..., Any], packed: Change) -> Callable[[ek.Problem], Any]:
        def answer(problem: ek.Problem) -> dict[str, Any]:
            three = recipe(problem)
            return {IN: packed(by_hand(problem)), "head": three["head"]}

        return answer

    return ct.Subject("by hand", *(ask(*way) for way in ways), definition=PACKED)


def broken(on_trial: ct.Subject, problem: ek.Problem) -> set[str]:
    return {law for law, verdict in ct.ask(on_trial, problem).items() if verdict is not None}


@SHARING
@BIAS
def test_what_is_computed_by_hand_passes_every_law(bias: bool, sharing: Any) -> None:
    said = ct.ask(answering(), asked(bias, sharing=sharing))
    assert {law for law, verdict in said.items() if verdict is not None} == set()
    assert {"trace", "commutes", "eigenbasis", "eigenvalues", "kfac", "exact block"} <= set(said)


@SHARING
@BIAS
def test_the_truth_is_what_is_computed_by_hand(bias: bool, sharing: Any) -> None:
    problem = asked(bias, sharing=sharing)
    known, apart = by_hand(problem), [observed(problem)[name][0] for name in THREE]
    (seen,) = Trial(answering(), problem).seen[IN]
    for mine, right in ((seen.a, known.a), (seen.g, known.g), (seen.G, known.G)):
        close(torch.stack(mine), right)
    for mine_, right in zip(oracle.factors(seen), known.factors, strict=True):
        close(mine_, right)
    close(oracle.fisher(seen), known.F)
    if known.expand:  # sum_t g_nct of a key is zero, and so under reduce there is no one basis
        close(oracle.ekfac_matrix(seen), known.E)
    squares = [torch.stack(one.size_g).square() for one in apart]
    close(torch.stack(seen.size_g).square(), torch.stack(squares).sum(0))


@BIAS
def test_a_recipe_of_this_definition_is_right(bias: bool) -> None:
    problem, recipe = asked(bias), Recipe(definition=PACKED)
    known = by_hand(problem)
    for answer, right in (
        (recipe.ekfac(problem), known.E),
        (recipe.kfac(problem), known.K),
        (recipe.exact_fisher(problem), known.F),
    ):
        assert set(answer) == {IN, "head"}
        M = answer[IN]
        close(matrix_by_products(IN, M.matvec, M.shape, torch.float64), right)
    close(recipe.sample_gradients(problem)[IN], known.G)


@pytest.mark.parametrize("bias", [ct.Definition().bias, ct.Separate()])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_other_way_to_ask(dtype: torch.dtype, bias: Any) -> None:
    """Vectors and sums, in every dtype, also beside ``Separate()``."""
    definition = replace(PACKED, bias=bias)
    recipe = Recipe(definition=definition)

    def precondition(problem: ek.Problem, V: Any, damping: float) -> dict[str, Tensor]:
        E = recipe.ekfac(problem)
        return {name: E[name].solve(x, damping=damping) for name, x in V.items()}

    def product(problem: ek.Problem, V: Any) -> dict[str, Tensor]:
        seen = definition.seen(problem, observed_exactly(problem))
        found = oracle.product_with_all(seen, {name: x.double() for name, x in V.items()})
        return {name: x.to(V[name]) for name, x in found.items()}

    double = asked()
    batches = [({"x": i["x"].to(dtype)}, y.to(dtype)) for i, y in double.batches]
    problem = replace(double, model=double.model.to(dtype), batches=batches)
    alone = ct.Subject("alone", precondition=precondition, definition=definition)
    beside = ct.Subject(
        "beside",
        per_sample_gradients=recipe.sample_gradients,
        diagonal=lambda problem: {
            name: G.square().sum(1).mean(0) for name, G in recipe.sample_gradients(problem).items()
        },
        fisher_product=product,
        definition=definition,
    )
    said = ct.ask(alone, problem) | ct.ask(beside, problem)
    assert {law for law, verdict in said.items() if verdict is not None} == set()
    assert {"sample gradients", "network", "diagonal"} <= set(said)
    if dtype is torch.bfloat16:  # where answers are held against replays of the definition
        trials = [Trial(one, problem) for one in (alone, beside)]
        for trial, law in zip(trials, ("P linear", "network"), strict=True):
            assert 0 < noise_limit(ct.LAWS[law], trial) < inf


def test_vectors_of_the_packed_layer_come_with_what_is_to_be_refused() -> None:
    def silent(problem: ek.Problem, V: Any, damping: float) -> dict[str, Tensor]:
        return {name: V[name] for name in (IN, "head")}

    on_trial = ct.Subject("silent", precondition=silent, definition=PACKED)
    assert isinstance(ct.ask(on_trial, asked(), ["nan"])["nan"], ct.LawBroken)


@BIAS
def test_undeclared_it_is_refused_and_told_how_to_declare(bias: bool) -> None:
    with pytest.raises(
        ct.BadAnswer, match=r"one layer, declare Definition\(attention=Packed\(\)\)"
    ):
        ct.ask(replace(answering(), definition=ct.Definition()), asked(bias))


@BIAS
def test_undeclared_its_rows_are_accused(bias: bool) -> None:
    """The packed E cut into three layers, which it couples."""
    right = answering()

    def cut(problem: ek.Problem) -> dict[str, Any]:
        answer = dict(right.ekfac(problem))  # type: ignore[misc]
        E = answer.pop(IN)
        matrix = matrix_by_products(IN, E.matvec, E.shape, torch.float64)
        P = len(matrix) // 3
        parts = [matrix[k * P : (k + 1) * P][:, k * P : (k + 1) * P] for k in range(3)]
        return answer | {name: Whole(M) for name, M in zip(THREE, parts, strict=True)}

    assert {"commutes", "moments"} <= broken(ct.Subject("cut", cut), asked(bias))


@BIAS
def test_three_layers_are_not_what_is_declared(bias: bool) -> None:
    with pytest.raises(
        ct.BadAnswer, match=r"expected a dict of \['attention.in_proj', 'head'\]; Packed\(\) is"
    ):
        ct.ask(ct.Subject("three", ek.ekfac, definition=PACKED), asked(bias))


def test_where_inputs_differ_the_three_stay_apart() -> None:
    """In cross-attention, although key and value have one input; and where one is not asked."""
    for problem in (asked(others=True), asked(layers=(*THREE[:2], "head"))):
        ways = CORRECT.ekfac, CORRECT.kfac, CORRECT.exact_fisher
        three = ct.Subject("three", *ways, definition=PACKED)
        assert set(Trial(three, problem).seen) == set(problem.layers or ())
        assert broken(three, problem) == set()
        with pytest.raises(ct.BadAnswer, match="and have the same input, and else three layers"):
            ct.ask(answering(), problem)


def test_linear_layers_of_these_names_are_none_of_torchs_attention() -> None:
    names = {"q_proj": nn.Linear(D, D), "k_proj": nn.Linear(D, D), "v_proj": nn.Linear(D, D)}
    assert in_projections(find_layers(nn.ModuleDict(names))) == {}
    whole = in_projections(find_layers(nn.MultiheadAttention(D, 1)))
    assert [*whole] == [("q_proj", "k_proj", "v_proj")]
    assert [(one.name, one.shape) for one in whole.values()] == [("in_proj", (3 * D, D + 1))]
    apart = nn.MultiheadAttention(D, 1, kdim=D + 1)
    assert in_projections(find_layers(apart)) == {}


def rows_permuted(known: ByHand) -> ek.EigenKronecker:
    """Of key and value."""
    q, k, v = torch.arange(3 * D).chunk(3)
    Q_B, Q_A, Lambda = known.eigen
    return ek.EigenKronecker(Q_B[torch.cat([q, v, k])], Q_A, Lambda)


def uncoupled(known: ByHand) -> Whole:
    """E of a B without the blocks between query, key and value."""
    B, A = known.factors
    own = torch.block_diag(*[torch.ones(D, D)] * 3).double()
    Q_B, Q_A = (torch.linalg.eigh(factor)[1] for factor in (B * own, A))
    Q = torch.kron(Q_B.contiguous(), Q_A.contiguous())
    Lambda = (Q_B.T @ known.G @ Q_A).square().sum((0, 1)) / len(known.a)
    return Whole(Q @ torch.diag(Lambda.flatten()) @ Q.T)


@SHARING
@BIAS
@pytest.mark.parametrize("mistake", [rows_permuted, uncoupled])
def test_mistakes_are_noticed(mistake: Change, bias: bool, sharing: Any) -> None:
    assert {"commutes", "moments"} <= broken(answering(mistake), asked(bias, sharing=sharing))


def test_the_adapter_reads_what_is_packed() -> None:
    """Joint, and with the bias apart."""
    head, separate = ("head",), ct.Definition(bias=ct.Separate(), attention=ct.Packed())

    def factors(problem: ek.Problem) -> dict[str, Any]:
        of_head = ek.kfac(replace(problem, layers=head))["head"]
        return {IN: Factors(*by_hand(problem).factors), "head": Factors(of_head.B, of_head.A)}

    def apart(problem: ek.Problem) -> dict[str, Any]:
        found = {}
        for name, both in factors(problem).items():
            cut = slice(0, D), slice(D, None)
            weight, bias = (Factors(both.B, both.A[inputs, inputs]) for inputs in cut)
            found[name] = WithBias(weight, bias)
        return found

    for answer, definition in ((factors, PACKED), (apart, separate)):
        declared = ct.Subject("adapted", kfac=adapted(answer), definition=definition)
        assert ct.ask(declared, asked(), ["kfac"]) == {"kfac": None}
    joint = ct.Subject("adapted", kfac=adapted(factors), definition=separate)
    with pytest.raises(ct.BadAnswer, match="its weight and its bias are coupled"):
        ct.ask(joint, asked())


def test_an_optimizer_has_steps_of_the_packed_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def layers(problem: ek.Problem) -> list[ek.Layer]:
        found = ek.layers_of(problem)
        return [found[-1], *in_projections(found).values()]

    training = trainer.Trainer()
    on_trial = ct.Subject("trains", optimizer=training.optimizer, definition=training.definition)
    problem = asked()
    assert broken(on_trial, problem) == set()
    monkeypatch.setattr(trainer, "layers_of", layers)
    monkeypatch.setattr(
        trainer, "observed_exactly", lambda problem: PACKED.seen(problem, observed_exactly(problem))
    )
    assert "first step" in broken(on_trial, problem)
    packed = replace(on_trial, definition=replace(training.definition, attention=ct.Packed()))
    assert broken(packed, problem) == set()


def test_labels_of_its_own() -> None:
    def kfac(problem: ek.Problem) -> dict[str, Any]:
        refused = ek.kfac(replace(problem, fisher=ek.Empirical(), layers=("head",)))
        model: Any = problem.model
        x = torch.cat([inputs["x"] for inputs, _ in problem.batches])
        attention, found = model.attention, []
        s = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)
        q, k, v = s.chunk(3, 2)
        attended = torch.softmax(q @ k.mT / D**0.5, 2) @ v
        u = model.head(attention.out_proj(attended))
        f = torch.tanh(u).sum(1)
        for _ in range(problem.fisher.draws if isinstance(problem.fisher, ek.Sampled) else 1):
            noise = torch.randn(f.shape).to(f)  # f - y
            found.append(torch.autograd.grad((noise * f).sum(), [s, u], retain_graph=True))
        B_in, B_head = (torch.cat(each).flatten(0, 1) for each in zip(*found, strict=True))
        a = torch.cat([x, torch.ones_like(x[..., :1])], 2).flatten(0, 1)
        B = B_in.T @ B_in / (len(x) * len(found))
        of_head = ek.Kronecker(B_head.T @ B_head / (len(x) * len(found)), refused["head"].A)
        return {IN: ek.Kronecker(B, a.T @ a / len(a)), "head": of_head}

    right = ct.Subject("draws", sampled_kfac=kfac, definition=PACKED)
    laws = ["sampled factor", "sampled kfac"]
    assert ct.ask(right, asked(), laws) == dict.fromkeys(laws)

    def half(problem: ek.Problem) -> dict[str, Any]:
        found = kfac(problem)
        return found | {IN: ek.Kronecker(found[IN].B / 2, found[IN].A)}

    said = ct.ask(replace(right, sampled_kfac=half), asked(), laws)
    assert "in_proj" in str(said["sampled factor"])


# On problems of any size.


@pytest.mark.parametrize("sharing", [ek.Expand(), ek.Reduce()])
@pytest.mark.parametrize("definition", [PACKED, replace(PACKED, bias=ct.Separate())])
def test_check_on_judges_the_packed_layer(definition: ct.Definition, sharing: Any) -> None:
    recipe, problem = Recipe(definition=definition), asked(sharing=sharing)
    right = ct.Subject("right", recipe.ekfac, recipe.kfac, definition=definition)
    report = ct.check_on(right, problem)
    assert report.exit_code == 0, report.summary

    def permuted(problem: ek.Problem) -> dict[str, Any]:
        return dict(recipe.ekfac(problem)) | {IN: rows_permuted(by_hand(problem))}

    if definition is PACKED:
        report = ct.check_on(replace(right, ekfac=permuted), problem)
        assert {"commutes", "spectrum"} & {v.law.name for v in report.verdicts if v.broken}


def test_check_on_tells_what_to_do_about_inputs_that_differ() -> None:
    on_trial = ct.Subject("three", ek.ekfac, definition=PACKED)
    with pytest.raises(ek.ProblemError, match=r"'attention.in_proj': Packed\(\) is declared, and"):
        ct.check_on(on_trial, asked(others=True))
    report = ct.check_on(on_trial, asked(others=True, layers=("head",)))
    assert report.exit_code == 0
