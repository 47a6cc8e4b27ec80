"""A bias apart, one A for all groups, a path of its own to solve: declared, and judged exactly.

The subjects are written from the definitions, on what the kit has seen of every group; how it cuts
that into blocks is what is tested.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance import evidence, laws
from ekfac_ref.conformance.adapter import (
    Convention,
    Eigen,
    Factors,
    WithBias,
    adapted,
    bias_first,
    columns,
)
from ekfac_ref.conformance.blur import BLURS, blurred
from ekfac_ref.conformance.check import Profile, Run
from ekfac_ref.conformance.definition import Definition, Separate, Shared
from ekfac_ref.conformance.diagnosis import diagnose
from ekfac_ref.conformance.draw import draw_problems, of_one_family
from ekfac_ref.conformance.images import convolutions
from ekfac_ref.conformance.law import Lane
from ekfac_ref.conformance.lawbook import LAWS
from ekfac_ref.conformance.memory import remembered
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.networks import MaskedMean
from ekfac_ref.conformance.observation import Observation
from ekfac_ref.conformance.resolution import sees
from ekfac_ref.conformance.subject import Abilities, Subject, subject
from ekfac_ref.conformance.tolerance import LawBroken
from ekfac_ref.conformance.trial import BadAnswer, Trial
from ekfac_ref.examples import reference
from ekfac_ref.sharing import Sharing
from tests.snapshot import as_users_run_it
from tests.witnesses import TiedWithOneBias

BY_NAME = {law.name: law for law in LAWS}
DEFINITIONS = {
    "separate": Definition(bias=Separate()),
    "shared": Definition(A=Shared()),
    "both": Definition(Separate(), Shared()),
}
SHARINGS = [ek.Expand(), ek.Reduce()]
ABILITIES = Abilities(layers=(nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d))


@pytest.fixture(autouse=True)
def _without_type_checks() -> Iterator[None]:
    """They draw from the random state that "leaves alone" watches, and they take long."""
    with as_users_run_it():
        yield


# The definitions, in plain tensors.


@dataclass(frozen=True, eq=False)
class Piece:
    """One block: its entries of vec([W | b]), rows stacked, and its factors."""

    entries: Tensor
    B: Tensor
    A: Tensor
    G: Tensor  # [N C, d_out, d_in]
    N: int

    @property
    def Q(self) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(self.B)[1], torch.linalg.eigh(self.A)[1]

    @property
    def eigenvalues(self) -> Tensor:
        Q_B, Q_A = self.Q
        return (Q_B.T @ self.G @ Q_A).square().sum(0) / self.N

    def matrix(self, of: str) -> Tensor:
        if of == "F":
            v = self.G.flatten(1)
            return v.T @ v / self.N
        if of == "K":
            return torch.kron(self.B, self.A)
        Q = torch.kron(*(x.contiguous() for x in self.Q))
        return Q @ torch.diag(self.eigenvalues.flatten()) @ Q.T


def rows_of(seen: Observation) -> tuple[Tensor, Tensor]:
    """(output gradients, inputs) whose mean outer products are B (over N) and A (over rows)."""
    kept = [a[yes] for a, yes in zip(seen.a, seen.counted, strict=True) if yes.any()]
    if isinstance(seen.sharing, ek.Expand):
        return torch.cat([g.flatten(0, 1) for g in seen.g]), torch.cat(kept)
    return torch.cat([g.sum(1) for g in seen.g]), torch.stack([a.mean(0) for a in kept])


def pieces(problem: ek.Problem, apart: bool, one_A: bool) -> dict[str, list[Piece]]:
    """Every block of every layer: W and b apart or together, one A or one per group."""
    biased = {x.name: x.bias is not None for x in ek.find_layers(problem.model, problem.layers)}
    found: dict[str, list[Piece]] = {}
    for name, groups in remembered(problem).items():
        d_out, d_in = groups[0].G[0].shape[1:]
        cut = [list(range(d_in))]
        if apart and biased[name]:
            cut = [cut[0][:-1], cut[0][-1:]]
        rows = [rows_of(seen) for seen in groups]
        A = [a.T @ a / len(a) for _, a in rows]
        A = [sum(A) / len(A)] * len(A) if one_A else A
        found[name] = [
            Piece(
                torch.tensor([(k * d_out + o) * d_in + i for o in range(d_out) for i in inputs]),
                rows[k][0].T @ rows[k][0] / len(seen.G),
                A[k][inputs][:, inputs],
                torch.cat(seen.G)[:, :, inputs],
                len(seen.G),
            )
            for k, seen in enumerate(groups)
            for inputs in cut
        ]
    return found


@dataclass(frozen=True, eq=False)
class Whole:
    """A matrix for a whole layer, and nothing else."""

    matrix: Tensor

    def matvec(self, V: Tensor) -> Tensor:
        return (self.matrix @ V.double().flatten()).reshape(V.shape).to(V)


@dataclass(frozen=True, eq=False)
class InBlocks(Whole):
    """The same with an operator for every block."""

    blocks: tuple[Any, ...]


def whole(parts: list[Piece], of: str) -> Tensor:
    P = sum(len(part.entries) for part in parts)
    matrix = torch.zeros(P, P).double()
    for part in parts:
        matrix[part.entries[:, None], part.entries] = part.matrix(of)
    return matrix


def dtype_of(problem: ek.Problem) -> torch.dtype:
    return next(problem.model.parameters()).dtype


def operator(parts: list[Piece], dtype: torch.dtype) -> Any:
    own = tuple(
        ek.EigenKronecker(*(Q.to(dtype) for Q in part.Q), part.eigenvalues.to(dtype))
        for part in parts
    )
    return InBlocks(whole(parts, "E"), own) if len(own) > 1 else own[0]


def correct(name: str, declared: bool = True, opaque: bool = False) -> Subject:
    """All that can be asked, by the definition of this name; ``opaque``: products alone."""
    definition = DEFINITIONS[name]
    apart, one_A = isinstance(definition.bias, Separate), isinstance(definition.A, Shared)

    def answer(of: str) -> Callable[[ek.Problem], Mapping[str, Any]]:
        def ask(problem: ek.Problem) -> Mapping[str, Any]:
            refuse(problem)
            found = pieces(problem, apart, one_A).items()
            if of == "E" and not opaque:
                return {name: operator(parts, dtype_of(problem)) for name, parts in found}
            return {name: Whole(whole(parts, of)) for name, parts in found}

        return ask

    def precondition(
        problem: ek.Problem, V: Mapping[str, Tensor], damping: float
    ) -> dict[str, Tensor]:
        found = pieces(problem, apart, one_A).items()
        return {name: solved(whole(parts, "E"), V[name], damping) for name, parts in found}

    of_E, of_K, of_F = (answer(of) for of in "EKF")
    subject = Subject(name, of_E, of_K, of_F, ABILITIES, precondition, definition)
    return subject if declared else replace(subject, definition=Definition())


def solved(matrix: Tensor, V: Tensor, damping: float) -> Tensor:
    damped = matrix + damping * torch.eye(len(matrix)).double()
    return torch.linalg.solve(damped, V.double().flatten()).reshape(V.shape).to(V)


def refuse(problem: ek.Problem) -> None:
    """As the kit observes in silence only what it can, this is the reference's refusal."""
    remembered(problem)


# Problems.


def numbers(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def made(model: nn.Module, x: Any, out: int, **choices: Any) -> ek.Problem:
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.7 * numbers(*parameter.shape))
    cuts, y = (slice(0, 2), slice(2, 5)), numbers(5, out)
    part = torch.utils._pytree.tree_map
    batches = [(part(lambda v, cut=cut: v[cut], x), y[cut]) for cut in cuts]
    return ek.Problem(model, batches, ek.Gaussian(), **choices)


def grouped(**choices: Any) -> ek.Problem:
    """Two groups, three positions, a bias; features of the groups of other sizes."""
    x = numbers(5, 4, 4) * torch.tensor([1.0, 2, 3, 4]).double()[:, None]
    convolution = nn.Conv1d(4, 4, 2, groups=2)
    return made(
        nn.Sequential(convolution, nn.Tanh(), nn.Flatten(), nn.Linear(12, 2)), x, 2, **choices
    )


def tied(**choices: Any) -> ek.Problem:
    """A weight used with the bias and without."""
    return made(TiedWithOneBias(), numbers(5, 2), 2, **choices)


def masked(**choices: Any) -> ek.Problem:
    """Tokens, of which some do not count."""
    counted = torch.arange(3) < torch.tensor([3, 1, 2, 3, 2])[:, None]
    given = {"x": numbers(5, 3, 2), "mask": counted}
    model = MaskedMean(nn.Linear(2, 2), nn.Linear(2, 2))
    return made(model, given, 2, mask=lambda given: given["mask"], **choices)


HAND_MADE = [grouped, tied, masked]


@functools.cache
def drawn() -> list[ek.Problem]:
    """Ten of any kind, and six with groups."""
    images = of_one_family(ABILITIES, convolutions, 60, 0)
    some = [p for p in images if any(x.groups > 1 for x in ek.find_layers(p.model, p.layers))]
    return draw_problems(ABILITIES, 10, 0) + some[:6]


def broken(on_trial: Subject, problem: ek.Problem) -> set[str]:
    """Names of laws."""
    trial, names = Trial(on_trial, problem), set()
    for law in LAWS:
        try:
            list(law.ask(trial))
        except LawBroken:
            names.add(law.name)
    return names


# Declared, they conform; else they do not.


def test_the_drawn_problems_have_what_the_definitions_are_about() -> None:
    about = [Trial(correct("both"), problem) for problem in drawn()]
    names = [
        [block.name for blocks in trial.blocks.values() for block in blocks] for trial in about
    ]
    assert any("group 1, bias" in of for of in names)
    assert any("group 1" in of for of in names)
    assert any("bias" in of for of in names)
    assert {type(problem.sharing) for problem in drawn()} == {ek.Expand, ek.Reduce}
    assert {problem.mask is None for problem in drawn()} == {True, False}
    assert {dtype_of(problem) for problem in drawn()} == {torch.float64, torch.float32}


@pytest.mark.parametrize("opaque", [False, True], ids=["in blocks", "opaque"])
@pytest.mark.parametrize(("first", "name"), [*enumerate(DEFINITIONS)])
def test_what_is_declared_conforms(first: int, name: str, opaque: bool) -> None:
    """On a third of the drawn problems, each time another."""
    on_trial = correct(name, opaque=opaque)
    for problem in drawn()[(first + opaque) % 3 :: 3]:
        assert broken(on_trial, problem) == set(), problem


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize("make", HAND_MADE)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_what_is_declared_conforms_in_the_corners(name: str, make: Any, sharing: Sharing) -> None:
    assert broken(correct(name), make(sharing=sharing)) == set()


@pytest.mark.parametrize("sharing", SHARINGS)
@pytest.mark.parametrize(
    ("name", "make", "by"),
    [
        *(("separate", make, {"kfac", "exact block"}) for make in HAND_MADE),
        ("separate", grouped, {"commutes", "moments"}),
        ("separate", masked, {"commutes", "moments"}),
        ("shared", grouped, {"commutes", "eigenbasis", "kfac", "moments"}),
    ],
)
def test_undeclared_they_do_not(name: str, make: Any, by: set[str], sharing: Sharing) -> None:
    assert by <= broken(correct(name, declared=False), make(sharing=sharing))


@pytest.mark.parametrize("make", HAND_MADE)
def test_a_joint_bias_is_not_separate(make: Any) -> None:
    on_trial = replace(reference, definition=Definition(bias=Separate()))
    with pytest.raises(BadAnswer, match="its weight and its bias are coupled, but Separate"):
        _ = Trial(on_trial, make()).cases


def test_groups_that_are_coupled_are_told_apart_from_biases() -> None:
    def all_ones(problem: ek.Problem) -> dict[str, Whole]:
        blocks = remembered(problem).items()
        sizes = {name: groups[0].G[0][0].numel() * len(groups) for name, groups in blocks}
        return {name: Whole(torch.ones(P, P).double()) for name, P in sizes.items()}

    on_trial = Subject("coupled", all_ones, definition=DEFINITIONS["both"])
    with pytest.raises(BadAnswer, match="its groups are coupled"):
        _ = Trial(on_trial, grouped()).cases


@pytest.mark.parametrize("sharing", SHARINGS)
def test_an_A_per_group_is_not_shared(sharing: Sharing) -> None:
    on_trial = replace(reference, definition=Definition(A=Shared()))
    expected = {"commutes", "eigenbasis", "kfac", "moments"}
    assert expected <= broken(on_trial, grouped(sharing=sharing))
    assert broken(on_trial, masked(sharing=sharing)) == set()  # no groups: it is the same


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_mistake_in_one_block_alone_is_seen(name: str) -> None:
    """The last block of the convolution, a bias or the second group, twice as large."""
    right = correct(name)

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        answer = dict(right.ekfac(problem))
        *others, last = answer["0"].blocks
        matrix = answer["0"].matrix.clone()
        entries = pieces(problem, isinstance(right.definition.bias, Separate), False)["0"][
            -1
        ].entries
        matrix[entries] *= 2
        answer["0"] = InBlocks(matrix, (*others, last.scaled(2.0)))
        return answer

    assert {"trace", "eigenvalues"} <= broken(replace(right, ekfac=wrong), grouped())


@dataclass(frozen=True, eq=False)
class Overwriting(Whole):
    def matvec(self, V: Tensor) -> Tensor:
        return V.copy_(super().matvec(V))


@dataclass(frozen=True, eq=False)
class Rectified(Whole):
    def matvec(self, V: Tensor) -> Tensor:
        return super().matvec(V).relu() if V.count_nonzero() > 1 else super().matvec(V)


@pytest.mark.parametrize(("kind", "law"), [(Overwriting, "own answers"), (Rectified, "linear")])
def test_an_operator_without_blocks_is_asked_about_them(kind: type[Whole], law: str) -> None:
    right = correct("both", opaque=True)
    bad = replace(right, ekfac=lambda p: {n: kind(E.matrix) for n, E in right.ekfac(p).items()})
    assert all(len(blocks) > 1 for blocks in Trial(bad, grouped()).blocks.values())
    assert law in broken(bad, grouped())


@pytest.mark.parametrize("make", HAND_MADE)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_what_a_block_has_seen_makes_its_gradients(name: str, make: Any) -> None:
    for blocks in Trial(correct(name), make()).blocks.values():
        for block in blocks:
            laws.gradient_is_sum_over_positions(block.seen)
            assert [w.shape for w in block.seen.wobble_g] == [g.shape[:2] for g in block.seen.g]
            assert [w.shape for w in block.seen.wobble_a] == [a.shape[:1] for a in block.seen.a]


def test_no_rounding_moves_the_one_of_a_bias() -> None:
    single = replace(grouped(), model=grouped().model.float())
    single.batches[:] = [(x.float(), y.float()) for x, y in single.batches]
    raw = remembered(single)["3"][0]
    weight, bias = (block.seen for block in Trial(correct("separate"), single).blocks["3"])
    for a, moved, still in zip(raw.wobble_a, weight.wobble_a, bias.wobble_a, strict=True):
        assert a.any()
        assert torch.equal(moved, a)
        assert not still.any()


# What else looks at a subject.


def test_a_whole_run_is_conclusive() -> None:
    """Blocks are spoilt one by one, whether the answer has them or not."""
    laws = [law for law in LAWS if law.name in ("linear", "symmetry", "trace", "moments", "kfac")]
    report = Run(correct("both", opaque=True), Profile("few", 6, 0.0), laws=laws).report()
    assert report.exit_code == 0, report.summary


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("blur", BLURS)
def test_a_spoilt_one_is_judged(blur: Any, opaque: bool) -> None:
    spoilt = Trial(blurred(correct("both", opaque=opaque), blur, 0.1), grouped())
    names = ("trace", "symmetry", "linear", "precondition")
    assert any(sees(BY_NAME[name], spoilt) for name in names)
    slightly = Trial(blurred(correct("both", opaque=opaque), blur, 1e-17), grouped())
    assert not any(sees(BY_NAME[name], slightly) for name in names)


def test_the_diagnosis_compares_where_the_definitions_agree(monkeypatch) -> None:
    monkeypatch.setattr(evidence, "DRAWS", (6,))
    where = "Only layers on which Definition(bias=Separate(), A=PerGroup()) makes no difference"
    right = correct("separate")
    assert diagnose(right, CATALOGUE[:2]).sentence.startswith(
        f"Its EKFAC agrees with the definition. {where}"
    )

    def summed(problem: ek.Problem) -> dict[str, Whole]:
        N = sum(len(y) for _, y in problem.batches)
        found = pieces(problem, True, False).items()
        return {name: Whole(N * whole(parts, "E")) for name, parts in found}

    some = [mutant for mutant in CATALOGUE if mutant.name == "sum-over-samples"]
    found = diagnose(replace(right, ekfac=summed), some)
    assert found.candidates[0].factor == "N" or found.candidates[0].name == some[0].name
    assert where in found.sentence
    assert "were compared." not in diagnose(replace(right, definition=Definition()), some).sentence


# The adapter.


def adapted_parts(problem: ek.Problem, of: str) -> dict[str, Any]:
    """Eigenvalues by columns, a bias apart."""

    def part(piece: Piece) -> Any:
        return Eigen(*piece.Q, piece.eigenvalues.T) if of == "E" else Factors(piece.B, piece.A)

    layers = ek.find_layers(problem.model, problem.layers)
    found = pieces(problem, True, True)
    answer: dict[str, Any] = {}
    for layer in layers:
        parts = [part(piece) for piece in found[layer.name]]
        if layer.bias is not None:
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [WithBias(weight=weight, bias=bias) for weight, bias in pairs]
        answer[layer.name] = parts if layer.groups > 1 else parts[0]
    return answer


def test_an_adapter_has_parts_for_weight_and_bias() -> None:
    convention = Convention(eigenvalues=columns, bias=bias_first)  # no matter to WithBias
    ekfac, kfac = (
        adapted(lambda problem, of=of: adapted_parts(problem, of), convention) for of in "EK"
    )
    on_trial = Subject("adapted", ekfac, kfac, definition=DEFINITIONS["both"])
    for problem in [*drawn()[:4], *(make() for make in HAND_MADE)]:
        trial = Trial(on_trial, problem)
        assert all(BY_NAME[name].offered(trial) for name in ("eigenbasis", "solve 1", "kfac"))
        assert broken(on_trial, problem) == set()


def test_parts_that_do_not_fit_are_told() -> None:
    problem = grouped()
    right = adapted_parts(problem, "K")
    first, second = right["0"]

    def told(parts: Any, what: str) -> None:
        with pytest.raises(BadAnswer, match=what):
            adapted(lambda asked: right | {"0": parts})(problem)

    told([first, replace(second, weight=first.bias)], r"layer '0', weight, A: shape \[1, 1\]")
    told([first, replace(second, bias=first.weight)], r"layer '0', bias, A: .*expected \[1, 1\]")
    told([first, second.weight], "WithBias for some groups and a Factors")
    no_bias = grouped()
    no_bias.model[0].bias = None
    with pytest.raises(BadAnswer, match="answer: WithBias; give the weight's part as it is"):
        adapted(lambda asked: right)(no_bias)


# Preconditioning.


def with_precondition(precondition: Callable[..., Any]) -> Subject:
    return Subject("solves", ek.ekfac, precondition=precondition)


def by_solve(damped: Callable[[float], float] = lambda damping: damping) -> Callable[..., Any]:
    def precondition(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
        blocks = ek.ekfac(problem)
        return {name: blocks[name].solve(V[name], damping=damped(damping)) for name in V}

    return precondition


def with_kfac(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
    blocks = ek.kfac(problem)
    return {name: blocks[name].solve(V[name], damping=damping) for name in V}


def transposed(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
    """Q^T (Lambda + damping)^-1 Q instead of Q (Lambda + damping)^-1 Q^T."""

    def solve(parts: list[Piece], v: Tensor) -> Tensor:
        Q = torch.block_diag(*(torch.kron(*(x.contiguous() for x in part.Q)) for part in parts))
        Lambda = torch.cat([part.eigenvalues.flatten() for part in parts])
        return (Q.T @ ((Q @ v.double().flatten()) / (Lambda + damping))).reshape(v.shape).to(v)

    found = pieces(problem, False, False)
    return {name: solve(found[name], v) for name, v in V.items()}


def at_random(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
    noise = 1 + 1e-15 * torch.rand(1).double()
    return {name: noise * x for name, x in by_solve()(problem, V, damping).items()}


@pytest.mark.parametrize("make", HAND_MADE)
@pytest.mark.parametrize("sharing", SHARINGS)
def test_a_right_one_solves(make: Any, sharing: Sharing) -> None:
    trial = Trial(with_precondition(by_solve()), make(sharing=sharing))
    ratios = list(BY_NAME["precondition"].ask(trial))
    assert len(ratios) == 2 * len(trial.blocks)
    assert BY_NAME["precondition"].offered(trial)
    assert not BY_NAME["precondition"].offered(Trial(Subject("", ek.ekfac), make()))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_another_definition_is_solved_in_its_own(name: str) -> None:
    joint = replace(correct(name), precondition=by_solve())
    assert "precondition" in broken(joint, grouped())
    assert "precondition" not in broken(correct(name), grouped())


@pytest.mark.parametrize(
    "wrong",
    [
        by_solve(lambda damping: 2 * damping),
        by_solve(lambda damping: damping**2),
        by_solve(lambda damping: 1.0),
        with_kfac,
        transposed,
        lambda problem, V, damping: {name: v / damping for name, v in V.items()},
        at_random,
    ],
    ids=["twice", "squared", "one", "KFAC", "transposed", "no E", "other bits"],
)
def test_a_wrong_one_does_not(wrong: Callable[..., Any]) -> None:
    with pytest.raises(LawBroken):
        list(BY_NAME["precondition"].ask(Trial(with_precondition(wrong), grouped())))


def test_it_leaves_gradients_and_model_alone() -> None:
    def overwrites(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> Any:
        answer = by_solve()(problem, V, damping)
        V["0"].zero_()
        next(problem.model.parameters()).grad = torch.zeros(4, 2, 2).double()
        return answer

    trial = Trial(with_precondition(overwrites), grouped())
    with pytest.raises(LawBroken, match="leaves alone"):
        list(BY_NAME["leaves alone"].ask(trial))
    assert "precondition, gradients of '0': changed" in trial.changes
    assert any(line.startswith("precondition, parameter '0.weight'") for line in trial.changes)
    assert "precondition" not in broken(with_precondition(overwrites), grouped())


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (
            lambda x: {"0": x["0"]},
            r"precondition returned \['0'\], expected a dict of \['0', '3'\]",
        ),
        (
            lambda x: x | {"0": x["0"].T},
            r"shape \[5, 4\] for gradients of \[4, 5\] = \[d_out, d_in",
        ),
        (lambda x: x | {"0": x["0"] / 0}, "precondition returned NaN or infinity"),
        (lambda x: x | {"0": None}, "precondition returned a NoneType, not a tensor"),
    ],
)
def test_its_answer_is_looked_at_first(bad: Callable[..., Any], says: str) -> None:
    def precondition(problem: ek.Problem, V: Mapping[str, Tensor], damping: float) -> Any:
        return bad(by_solve()(problem, V, damping))

    with pytest.raises(BadAnswer, match=says):
        list(BY_NAME["precondition"].ask(Trial(with_precondition(precondition), grouped())))


# How they are declared.


def test_an_object_declares_what_it_has() -> None:
    class Mine:
        definition = DEFINITIONS["both"]
        abilities = ABILITIES
        ekfac = staticmethod(ek.ekfac)
        precondition = staticmethod(by_solve())

    mine = subject(Mine(), "mine")
    assert (mine.definition, mine.abilities) == (Mine.definition, ABILITIES)
    assert mine.precondition is Mine.precondition
    assert mine.kfac is None
    assert subject(ek.ekfac, "plain").definition == Definition()


def test_what_is_no_definition_is_refused() -> None:
    with pytest.raises(ek.ProblemError, match=r"bias is .*; pass Joint\(\) or Separate\(\)"):
        Definition(bias=Separate)  # type: ignore[arg-type]
    with pytest.raises(ek.ProblemError, match=r"A is .*; pass PerGroup\(\) or Shared\(\)"):
        Definition(A="shared")  # type: ignore[arg-type]
    with pytest.raises(ek.ProblemError, match=r"pass Definition\(bias=Separate\(\)\)"):
        Subject("mine", ek.ekfac, definition=Separate())  # type: ignore[arg-type]


def test_what_wraps_a_subject_wraps_its_precondition() -> None:
    asked = []

    def counting(ask: Callable[..., Any]) -> Callable[..., Any]:
        def answer(problem: ek.Problem) -> Any:
            asked.append(problem)
            return ask(problem)

        return answer

    trial = Trial(with_precondition(by_solve()).wrapped(counting), grouped())
    assert list(BY_NAME["precondition"].ask(trial))
    assert len(asked) == 1 + 4
    assert BY_NAME["precondition"].lane is Lane.PRECONDITION
