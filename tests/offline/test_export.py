"""What is exported: all that laws ask, the same bytes again, and why the rest is left out."""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import cli
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants.recipe import Recipe
from ekfac_ref.conformance.offline.export import export, problem_set
from ekfac_ref.conformance.offline.network import NoOperation, nodes_of
from ekfac_ref.conformance.offline.question import as_question, key_of
from ekfac_ref.conformance.offline.questions import NOT_OF_FILES, questions_about
from ekfac_ref.conformance.offline.schema import QUESTION_SCHEMA
from ekfac_ref.conformance.problems import networks
from ekfac_ref.conformance.subjects.subject import Answer, Subject
from ekfac_ref.conformance.subjects.trial import Trial
from ekfac_ref.question.problem import Problem
from tests.offline.conftest import EXAMPLES
from tests.support.schema import misfits_of_schema


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.shapes
def test_the_same_bytes_again(few_answers: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)  # whatever random numbers come next
    export(tmp_path, 6, 0)
    written = files(tmp_path)
    there = {name: contents for name, contents in files(few_answers).items() if name in written}
    assert written == there


def test_all_that_laws_ask_is_among_the_questions() -> None:
    every = problem_set(60, 0).problems.values()
    problem, asked = next(one for one in every if one.mask is not None), set[str]()

    def ask(question: Problem) -> Answer:
        asked.add(as_question(question)["key"])
        ek.exact_fisher(question)  # which refuses what is to be refused
        return Recipe().ekfac(question)

    trial = Trial(Subject("asked", ask), problem)
    for name in {*LAWS} - {*NOT_OF_FILES}:
        list(LAWS[name].ask(trial))
    assert asked == {as_question(one)["key"] for one in questions_about(problem).values()}


def test_questions_and_answers_fit_the_schema(numpy_answers: Path) -> None:
    schema = json.loads((numpy_answers / "schema.json").read_text())
    for name in ("question", "answer"):
        files = list(numpy_answers.glob(f"questions/*/{name}.json"))
        assert len(files) > 20
        for path in files:
            assert misfits_of_schema(json.loads(path.read_text()), schema[name]) == [], path


def test_questions_of_every_operation_fit_the_schema() -> None:
    found, operations = problem_set(200, 0), set[str]()
    for number, problem in found.problems.items():
        question = as_question(problem)
        assert misfits_of_schema(question, QUESTION_SCHEMA) == [], number
        operations |= {node["op"] for node in question["network"]}
    written = QUESTION_SCHEMA["properties"]["network"]["items"]["properties"]["op"]["enum"]
    assert {*written} - operations == {"batch_norm"}  # in train mode: what is to be refused


def test_a_key_tells_values_apart() -> None:
    problem = next(iter(problem_set(6, 0).problems.values()))
    question = as_question(problem)
    assert key_of(question) == question["key"] == as_question(problem, solved=True)["key"]
    question["batches"][0]["targets"][0] += 1
    assert key_of(question) != question["key"]


def test_what_has_no_operation_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = problem_set(60, 0)
    assert len(found.problems) == 60
    assert found.left_out == {}
    odd = replace(found, left_out={3: "GELU", 4: "GELU", 7: "Fold"})
    assert "3 are left out, of which files have no operation for: GELU (2), Fold (1)" in odd.says
    assert cli.main(["export", str(tmp_path / "few"), "--problems", "2", "--layer", "Linear"]) == 0
    said = capsys.readouterr().out
    assert "2 of 2 problems." in said
    assert f"ekfac-ref judge {tmp_path / 'few'}" in said
    manifest = json.loads((tmp_path / "few/manifest.json").read_text())
    assert (manifest["count"], manifest["layers"]) == (2, ["Linear"])
    (tmp_path / "file").write_text("")
    assert cli.main(["export", str(tmp_path / "file"), "--problems", "1"]) == 2


def normed() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(values, 0.5, 2.0)
    return nn.Sequential(nn.Conv2d(1, 3, 2), norm, nn.Flatten(), nn.Linear(12, 2))


def amplified() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 2), networks.Gain(), nn.Tanh(), nn.Linear(2, 2))
    nn.init.constant_(model.get_parameter("1.gain"), 3.0)
    return model


def attending() -> nn.Module:
    return networks.SelfAttention(*(nn.Linear(3, 2) for _ in range(3)), nn.Linear(2, 2))


def plain_attention(**options: Any) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(2, **({"num_heads": 1, "batch_first": True} | options))


def around_attention() -> nn.Module:
    attention = plain_attention()
    nn.init.uniform_(attention.in_proj_bias)
    return nn.Sequential(nn.Linear(3, 2), networks.Attending(attention), nn.Linear(2, 2))


OTHER_ATTENTION = [
    plain_attention(num_heads=2),
    plain_attention(batch_first=False),
    plain_attention(bias=False),
    plain_attention(kdim=3),
    plain_attention(add_bias_kv=True),
    plain_attention(add_zero_attn=True),
    plain_attention(dropout=0.5).train(),
]


def changing() -> nn.Module:
    frozen = nn.Linear(2, 2).requires_grad_(False)  # else its gradient needs what it was given
    return nn.Sequential(nn.Linear(3, 2), networks.ChangesItsInput(frozen), nn.Tanh())


WRITTEN = {
    "batch norm": (normed, [(5, 1, 3, 3)], ("0", "3")),
    "gain": (amplified, [(5, 3)], ("0", "3")),
    "scaled": (
        lambda: nn.Sequential(networks.ScaledLinear(3, 2), nn.Tanh(), nn.Linear(2, 2)),
        [(5, 3)],
        None,
    ),
    "scaled convolution": (
        lambda: nn.Sequential(networks.ScaledConv2d(1, 2, 2), nn.Tanh(), nn.Flatten()),
        [(5, 1, 3, 3)],
        None,
    ),
    "used beside": (lambda: networks.UsedBeside(nn.Linear(3, 3)), [(5, 3)], None),
    "one row for all": (
        lambda: nn.Sequential(
            networks.PlusConstant(nn.Linear(3, 2), nn.Linear(4, 2)), nn.Tanh(), nn.Linear(2, 2)
        ),
        [(5, 3)],
        None,
    ),
    "two branches": (
        lambda: networks.TwoBranches(nn.Linear(3, 2), nn.Linear(4, 2)),
        [(5, 3), (5, 4)],
        None,
    ),
    "changed input": (changing, [(5, 3)], None),
    "self-attention": (attending, [(5, 4, 3)], None),
    "torch's attention": (around_attention, [(5, 4, 3)], ("0", "1.attention.out_proj", "2")),
}


@pytest.mark.parametrize(("build", "shapes", "layers"), WRITTEN.values(), ids=WRITTEN)
def test_every_operation_is_what_the_network_does(
    build: Callable[[], nn.Module],
    shapes: list[tuple[int, ...]],
    layers: tuple[str, ...] | None,
) -> None:
    """By a program that knows the operations alone."""
    model = build().double().eval()
    x = tuple(torch.randn(shape).double() for shape in shapes)
    inputs = x[0] if len(x) == 1 else x
    y = torch.randn(model(*(one.clone() for one in x)).shape).double()
    problem = ek.Problem(model, [(inputs, y)], ek.Gaussian(), layers=layers)
    by_numpy = runpy.run_path(str(EXAMPLES / "networks_numpy.py"))["answer"]
    found = by_numpy(json.loads(json.dumps(as_question(problem))))
    for name, block in ek.exact_fisher(problem).items():
        torch.testing.assert_close(
            torch.as_tensor(found[f"{name}/exact_fisher/0/matrix"]), block.dense()
        )


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()), "GELU"),
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(), "Dropout in train mode"),
        *((networks.Attending(one), "attention but of one head") for one in OTHER_ATTENTION),
        (nn.Sequential(*[networks.Attending(plain_attention())] * 2), "called twice"),
    ],
)
def test_what_cannot_be_written_is_named(model: nn.Module, why: str) -> None:
    with pytest.raises(NoOperation, match=why):
        nodes_of(model, ["x"], {})


def test_parts_of_a_parameter_that_are_layers_have_no_operation() -> None:
    with pytest.raises(NoOperation, match="projections are asked about"):
        nodes_of(networks.Attending(plain_attention()), ["x"], {"attention.in_proj_weight": "q"})
