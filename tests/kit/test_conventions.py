"""A bias treated by itself, or one A for all groups: where declared, it is judged exactly."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.adapter import (
    Convention,
    Eigen,
    Factors,
    Matrix,
    WithBias,
    adapted,
    bias_first,
    columns,
)
from ekfac_ref.conformance.diagnosis import selection as evidence
from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import notices
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.run.examiner import Here
from ekfac_ref.conformance.run.perturbed import PERTURBATIONS, perturbed
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.subjects.definition import Definition, Separate, Shared
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import Subject, as_subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.conformance.truth.cache import observed
from ekfac_ref.question.sharing import Sharing
from tests.support import laws
from tests.support.other_definitions import (
    ABILITIES,
    DEFINITIONS,
    HAND_MADE,
    SHARINGS,
    InBlocks,
    Piece,
    Whole,
    broken,
    correct,
    drawn,
    grouped,
    masked,
    pieces,
    whole,
)
from tests.support.right import RIGHT

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
    assert {problem.dtype for problem in drawn()} == {torch.float64, torch.float32}


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
    on_trial = replace(RIGHT, definition=Definition(bias=Separate()))
    with pytest.raises(BadAnswer, match="its weight and its bias are coupled, but Separate"):
        _ = Trial(on_trial, make()).cases


def test_groups_that_are_coupled_are_told_apart_from_biases() -> None:
    def all_ones(problem: ek.Problem) -> dict[str, Whole]:
        blocks = observed(problem).items()
        sizes = {name: groups[0].G[0][0].numel() * len(groups) for name, groups in blocks}
        return {name: Whole(torch.ones(P, P).double()) for name, P in sizes.items()}

    on_trial = Subject("coupled", all_ones, definition=DEFINITIONS["both"])
    with pytest.raises(BadAnswer, match="its groups are coupled"):
        _ = Trial(on_trial, grouped()).cases


@pytest.mark.parametrize("sharing", SHARINGS)
def test_an_A_per_group_is_not_shared(sharing: Sharing) -> None:
    on_trial = replace(RIGHT, definition=Definition(A=Shared()))
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
            for size, g in zip(block.seen.size_g, block.seen.g, strict=True):
                assert (size >= (1 - 1e-9) * g.norm(dim=(0, 2))).all()
            assert [w.shape for w in block.seen.rounding_a] == [a.shape[:1] for a in block.seen.a]


def test_no_rounding_moves_the_one_of_a_bias() -> None:
    single = replace(grouped(), model=grouped().model.float())
    single.batches[:] = [(x.float(), y.float()) for x, y in single.batches]
    raw = observed(single)["3"][0]
    weight, bias = (block.seen for block in Trial(correct("separate"), single).blocks["3"])
    for a, moved, still in zip(raw.rounding_a, weight.rounding_a, bias.rounding_a, strict=True):
        assert a.any()
        assert torch.equal(moved, a)
        assert not still.any()


# What else looks at a subject.


def test_a_whole_run_is_conclusive() -> None:
    """Blocks are perturbed one by one, whether the answer has them or not."""
    laws = [LAWS[name] for name in ("linear", "symmetry", "trace", "moments", "kfac")]
    report = Run(Here(correct("both", opaque=True)), Profile("few", 6, 0.0), laws=laws).report()
    assert report.exit_code == 0, report.summary


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("kind", PERTURBATIONS)
def test_a_perturbed_one_is_judged(kind: Any, opaque: bool) -> None:
    off = Trial(perturbed(correct("both", opaque=opaque), kind, 0.1), grouped())
    names = ("trace", "symmetry", "linear", "precondition")
    assert any(notices(LAWS[name], off) for name in names)
    slightly = Trial(perturbed(correct("both", opaque=opaque), kind, 1e-17), grouped())
    assert not any(notices(LAWS[name], slightly) for name in names)


def test_the_diagnosis_compares_where_the_definitions_agree(monkeypatch) -> None:
    monkeypatch.setattr(evidence, "DRAWS", (6,))
    monkeypatch.setattr(evidence, "WRITTEN_OUT_DRAWS", (3,))
    where = "Only layers on which Definition(bias=Separate(), A=PerGroup(), damping=Tikhonov()) "
    right = correct("separate")
    sentence = diagnose(right, list(MUTANTS.values())[:2]).sentence
    agree = "Its EKFAC and KFAC and exact block and preconditioner agree with the definition. "
    assert sentence.startswith(agree)
    assert where + "makes no difference" in sentence

    def summed(problem: ek.Problem) -> dict[str, Whole]:
        N = sum(len(y) for _, y in problem.batches)
        found = pieces(problem, True, False).items()
        return {name: Whole(N * whole(parts, "E")) for name, parts in found}

    some = [mutant for mutant in MUTANTS.values() if mutant.name == "sum-over-samples"]
    found = diagnose(replace(right, ekfac=summed), some)
    assert found.candidates[0].factor == "N" or found.candidates[0].name == some[0].name
    assert where in found.sentence
    assert "were compared." not in diagnose(replace(right, definition=Definition()), some).sentence


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("separate", "declare Definition(bias=Separate())"),
        ("shared", "declare Definition(A=Shared())"),
    ],
)
def test_what_should_have_been_declared_is_named(name: str, advice: str, monkeypatch) -> None:
    monkeypatch.setattr(evidence, "DRAWS", (9,))
    others = ("bias-apart", "inputs-of-first-group", "weight-and-bias-uncoupled")
    some = [m for m in MUTANTS.values() if m.name in (*others, "one-A-for-all-groups")]
    found = diagnose(correct(name, declared=False), some)
    assert found.candidates[0].error < 1e-8
    assert advice in found.sentence


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
        assert all(LAWS[name].offered(trial) for name in ("eigenbasis", "solve 1", "kfac"))
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
    told([first, replace(second, bias=Matrix([[1j]]))], "numbers of torch.complex64, expected real")
    no_bias = grouped()
    no_bias.model[0].bias = None
    with pytest.raises(BadAnswer, match="answer: WithBias; give the weight's part as it is"):
        adapted(lambda asked: right)(no_bias)


# How they are declared.


def test_an_object_declares_what_it_has() -> None:
    class Mine:
        definition = DEFINITIONS["both"]
        abilities = ABILITIES
        ekfac = staticmethod(ek.ekfac)
        precondition = staticmethod(lambda problem, gradients, damping: gradients)

    mine = as_subject(Mine(), "mine")
    assert (mine.definition, mine.abilities) == (Mine.definition, ABILITIES)
    assert mine.precondition is Mine.precondition
    assert mine.kfac is None
    assert as_subject(ek.ekfac, "plain").definition == Definition()


def test_what_is_no_definition_is_refused() -> None:
    with pytest.raises(ek.ProblemError, match=r"bias is .*; pass Joint\(\) or Separate\(\)"):
        Definition(bias=Separate)  # type: ignore[arg-type]
    with pytest.raises(ek.ProblemError, match=r"A is .*; pass PerGroup\(\) or Shared\(\)"):
        Definition(A="shared")  # type: ignore[arg-type]
    with pytest.raises(ek.ProblemError, match=r"pass Definition\(bias=Separate\(\)\)"):
        Subject("mine", ek.ekfac, definition=Separate())  # type: ignore[arg-type]
