"""What a trial on a model of one's own says: where it is wrong, how sure it is, how it ended."""

import io
import json
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.cli import main
from ekfac_ref.conformance.findings.verdicts import Blame, Trouble
from ekfac_ref.conformance.own_model.laws.own_law import Weighed
from ekfac_ref.conformance.own_model.layer_features import features_of_parts
from ekfac_ref.conformance.own_model.own_examiner import (
    AskedOnce,
    JudgedPart,
    Opened,
    OwnHere,
    PartSaid,
)
from ekfac_ref.conformance.own_model.own_run import OwnRun
from ekfac_ref.conformance.own_model.trial import OwnTrial
from ekfac_ref.conformance.process import own_wire
from ekfac_ref.conformance.reports.as_junit import as_junit
from ekfac_ref.conformance.reports.terminal import print_report
from ekfac_ref.examples import hooks, reference
from studies.own_model.models import GPT, transformer

LAWS = ["trace", "spectrum", "eigenvalues"]


def small() -> ek.Problem:
    """Nine layers."""
    torch.manual_seed(0)
    return transformer(4, 6, GPT(20, 16, 2, 6).double())


def in_some_layers(problem: ek.Problem) -> dict[str, Any]:
    """Off by three percent where queries, keys and values are made."""
    blocks = ek.ekfac(problem)
    return {name: E.scaled(1.03) if "qkv" in name else E for name, E in blocks.items()}


def test_it_says_which_layers_are_wrong() -> None:
    report = ct.check_on(in_some_layers, small(), laws=LAWS)
    assert report.exit_code == 1
    assert report.summary == "It does not conform (broken: trace, spectrum, eigenvalues)."
    where = "Wrong exactly where named *.qkv: 2 of 2 such blocks, 0 of 7 others"
    factor = "E is right up to a factor on its 2 wrong blocks: times 1.03."
    assert report.sentences == [f"{where}: trace, spectrum, eigenvalues.", f"Diagnosis: {factor}"]
    wrong = [score.name for score in report.scoreboard if score.standing.value == "wrong"]
    assert wrong == ["named *.qkv"]
    trace = report.verdicts[0]
    assert "(0.03 of the whole)" in trace.broken
    assert trace.notices is not None
    assert 0 < trace.notices[0] <= trace.notices[1] < 1e-9


def test_one_layer_that_is_wrong_is_named() -> None:
    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem)
        return {**blocks, "head": blocks["head"].scaled(0.9)}

    sentence, _ = ct.check_on(wrong, small(), laws=["trace"]).sentences
    assert sentence.startswith("Wrong exactly where")
    assert "layer head" in sentence


def test_groups_that_are_wrong_are_told_by_their_feature() -> None:
    torch.manual_seed(0)
    convolutions = [nn.Conv1d(4, 4, 1, groups=k, bias=False) for k in (1, 2, 4, 1, 2)]
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(12, 3)).double()
    x, y = torch.randn(30, 4, 3).double(), torch.randn(30, 3).double()
    problem = ek.Problem(model, [(x, y)], ek.Gaussian(), ek.Empirical())

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem)
        return {n: E.scaled(2.0) if hasattr(E, "blocks") else E for n, E in blocks.items()}

    report = ct.check_on(wrong, problem, laws=["trace"])
    assert report.sentences == [
        "Wrong exactly where groups: 8 of 8 such blocks, 0 of 3 others: trace.",
        "Diagnosis: E is right up to a factor on its 8 wrong blocks: times 2.",
    ]


def test_the_layers_of_torchs_attention_are_blocks_like_others() -> None:
    """Three of its four are no modules, and share one Parameter that is none of its weights."""
    attention = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(attention, nn.Flatten(), nn.Linear(32, 3)).double().eval()
    own = ("q_proj", "k_proj", "v_proj", "out_proj")
    layers = (*(f"0.self_attn.{name}" for name in own), "0.linear1", "0.linear2", "2")
    batch = torch.randn(5, 4, 8).double(), torch.randint(3, (5,))
    problem = ek.Problem(model, [batch], ek.Categorical(), ek.Empirical(), layers=layers)

    def wrong(problem: ek.Problem) -> dict[str, Any]:
        blocks = ek.ekfac(problem)
        return {name: E.scaled(1.03) if name[-6:] in own else E for name, E in blocks.items()}

    assert ct.check_on(ek.ekfac, problem, laws=LAWS).exit_code == 0
    sentence, _ = ct.check_on(wrong, problem, laws=["trace"]).sentences
    assert sentence.startswith("Wrong exactly where MultiheadAttention: 3 of 3 such blocks, 0 of 4")


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.d = nn.Embedding(7, 4, padding_idx=0), nn.Embedding(7, 4)
        self.c = nn.Conv1d(4, 4, 2, stride=2, groups=4, padding=1, bias=False)
        self.bag = nn.EmbeddingBag(7, 4, padding_idx=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.c((self.e(x) + self.d(x)).mT).sum(-1) + self.bag(x)


def test_what_is_special_about_a_layer_is_told() -> None:
    batch = torch.randint(7, (6, 3)), torch.randint(4, (6,))
    problem = ek.Problem(Words().double(), [batch], ek.Categorical(), ek.Empirical())
    known = OwnTrial(reference, problem).measured()
    found = {
        one.part.layer: set(names)
        for one, names in zip(known, features_of_parts(problem, known), strict=True)
    }
    here = {"several positions"}
    assert found["e"] - {"A without full rank"} == {"Embedding", "padding_idx", "layer e", *here}
    assert found["d"] - {"A without full rank"} == {"Embedding", "layer d", *here}
    of_bag = {"EmbeddingBag", "padding_idx", "layer bag"}
    assert found["bag"] - {"A without full rank"} == of_bag
    of_c = {"Conv1d", "no bias", "groups", "depthwise", "stride", "padding", "layer c", *here}
    assert found["c"] - {"A without full rank"} == of_c


def test_known_deviations_are_expected() -> None:
    report = ct.check_on(
        in_some_layers, small(), laws=LAWS[:2], known=dict.fromkeys(LAWS[:2], "3 %")
    )
    assert report.exit_code == 0
    held = ct.check_on(reference, small(), laws=["spectrum"], known={"spectrum": "3 %"})
    assert held.exit_code == 1


def test_what_is_too_blunt_is_inconclusive() -> None:
    def bare(problem: ek.Problem) -> dict[str, Any]:
        return {n: SimpleNamespace(matvec=E.matvec) for n, E in ek.ekfac(problem).items()}

    coarse = small()
    coarse = replace(coarse, model=coarse.model.bfloat16())
    report = ct.check_on(bare, coarse)
    assert report.exit_code == 5
    assert len(report.unresolved) > 0
    assert report.summary.startswith(
        "Inconclusive: answers far off would pass all laws on blocks.0"
    )
    assert report.summary.endswith("; pose the problem in float32, model and data.")
    shown = ct.check_on(reference, coarse)
    assert shown.summary == report.summary
    assert ct.check_on(bare, replace(coarse, model=coarse.model.float())).exit_code == 0


def nearly_equal(dtype: torch.dtype, off: float) -> ek.Problem:
    """Inputs of nearly one length, at right angles: A has eigenvalues that are nearly equal."""
    torch.manual_seed(0)
    model = nn.Linear(4, 4, bias=False).to(dtype)
    lengths = 1 + off * torch.randn(4, 1).double()
    x = torch.cat([torch.linalg.qr(torch.randn(4, 4).double())[0] * lengths for _ in range(4)])
    y = torch.randn(16, 4).to(dtype)
    return ek.Problem(model, [(x.to(dtype), y)], ek.Gaussian(), ek.Empirical())


def test_what_is_advised_where_it_is_inconclusive_helps() -> None:
    def bare(problem: ek.Problem) -> dict[str, Any]:
        return {n: SimpleNamespace(matvec=E.matvec) for n, E in ek.ekfac(problem).items()}

    single = nearly_equal(torch.float32, 1e-5)
    report = ct.check_on(bare, single)
    assert report.exit_code == 5
    ways = "show eigenvectors and eigenvalues, or pose the problem in float64, where fewer of these"
    assert ways in report.summary
    shown = ct.check_on(ek.ekfac, single)
    assert shown.exit_code == 0
    blunt = replace(shown, unresolved=("0",))
    assert blunt.summary.endswith("on 0; pose the problem in float64.")
    assert ct.check_on(bare, nearly_equal(torch.float64, 1e-5)).exit_code == 0
    equal = ct.check_on(bare, nearly_equal(torch.float64, 0.0))
    assert equal.summary.endswith("; show eigenvectors and eigenvalues.")
    assert ct.check_on(ek.ekfac, nearly_equal(torch.float64, 0.0)).exit_code == 0
    some = ct.check_on(ek.ekfac, single, laws=["trace"])
    assert some.summary.endswith("; ask all laws.")


def test_a_refusal_of_one_question_leaves_the_others() -> None:
    def without(problem: ek.Problem) -> dict[str, Any]:
        def solve(V: Any, damping: float) -> Any:
            raise NotImplementedError("no solve")

        blocks = ek.ekfac(problem).items()
        return {n: SimpleNamespace(matvec=E.matvec, solve=solve) for n, E in blocks}

    report = ct.check_on(without, small(), laws=["trace", "solve"])
    assert report.exit_code == 0
    assert [v.status for v in report.verdicts] == [ct.Status.PASS, ct.Status.REFUSED]


def test_what_ends_the_question_is_no_verdict() -> None:
    def refuses(problem: ek.Problem) -> dict[str, Any]:
        raise ValueError("no transformers")

    def others(problem: ek.Problem) -> dict[str, Any]:
        return {"head": ek.ekfac(problem)["head"]}

    def numbers(problem: ek.Problem) -> dict[Any, Any]:
        return {0: None, **ek.ekfac(problem)}

    for subject, says in (
        (refuses, "no transformers"),
        (others, "to be asked about fewer, pose a problem with others in layers=..."),
        (numbers, "ekfac returned [0, '"),
    ):
        report = ct.check_on(subject, small())
        assert report.exit_code == 3
        assert says in report.summary


def test_what_an_answer_lacks_of_many_layers_can_be_read() -> None:
    layers = [nn.Linear(2, 2, bias=False) for _ in range(60)]
    data = [(torch.randn(3, 2).double(), torch.tensor([0, 1, 1]))]
    problem = ek.Problem(nn.Sequential(*layers).double(), data, ek.Categorical())

    def all_but_one(problem: ek.Problem) -> dict[str, Any]:
        for parameter in problem.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        return {name: E for name, E in ek.ekfac(problem).items() if name != "7"}

    report = ct.check_on(all_but_one, problem)
    assert "['0', '1', '10'] and 57 more" in report.summary
    assert "it lacks ['7']: " in report.summary
    (manners,) = (v for v in report.verdicts if v.law.name == "leaves alone")
    assert manners.broken.endswith("parameter '2.weight' grad: changed; and 57 others")


def test_nobody_counts_what_is_not_kept_of_what_it_prints() -> None:
    def prints(problem: ek.Problem) -> dict[str, Any]:
        print("line\n" * 50_000)
        return ek.ekfac(problem)

    report = ct.check_on(prints, small(), laws=["trace"])
    page = io.StringIO()
    print_report(Console(file=page), report, "prints", "")
    assert "The subject printed, its first 12 lines:\n    line\n" in page.getvalue()


def test_what_it_changes_is_told() -> None:
    def careless(problem: ek.Problem) -> dict[str, Any]:
        problem.model.train()
        return ek.ekfac(replace(problem, model=problem.model.eval()))

    def trains(problem: ek.Problem) -> dict[str, Any]:
        found = ek.ekfac(problem)
        problem.model.train()
        return found

    assert ct.check_on(careless, small(), laws=["leaves alone"]).exit_code == 0
    report = ct.check_on(trains, small(), laws=["leaves alone"])
    assert "values: changed" in report.verdicts[0].broken


def test_what_cannot_be_asked_is_refused_with_advice() -> None:
    with pytest.raises(ek.ProblemError, match=r"there is no 'tracing'; did you mean 'trace'\?"):
        ct.check_on(reference, small(), laws=["tracing"])
    with pytest.raises(ek.ProblemError, match=r"pass an ekfac_ref\.Problem"):
        ct.check_on(reference, small)  # type: ignore[arg-type]
    with pytest.raises(ek.ProblemError, match="judged by ekfac, kfac, precondition"):
        ct.check_on(reference.offering(("exact_fisher",)), small())


def test_an_interrupt_ends_the_run_and_not_the_report() -> None:
    examiner, judged = OwnHere(reference), []

    def tick(what: str) -> None:
        judged.append(what)
        if judged.count("judged") == 2:
            raise KeyboardInterrupt

    passes = examiner.begin(small(), 0)
    report = OwnRun(examiner, "mine", laws=["trace"], tick=tick).report()
    assert judged.count("measured") == passes
    assert report.exit_code == 4
    assert report.summary == "Incomplete: interrupted, 2 of 9 blocks (no law was broken)."


MODULE = """
import os
import torch
from ekfac_ref.examples import hooks
from studies.own_model.models import GPT, transformer
from tests.kit.test_own_model_reports import in_some_layers, small


def ends(problem):
    os._exit(7)


def breaks():
    raise ValueError("no data")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_things.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_command_writes_all_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", "o.json", "--report", "o.html", "--junit", "o.xml"]
    asked = ["check", "own_things:in_some_layers", "--problem", "own_things:small"]
    code = main([*asked, *(word for law in LAWS for word in ("--law", law)), *files])
    out, found = capsys.readouterr().out, json.loads((folder / "o.json").read_text())
    assert code == found["exit_code"] == 1
    assert found["about"] == "own_things:small"
    assert found["asked"] == found["problems"] == 9
    assert found["own_process"]
    assert found["sentences"][0].startswith("Wrong exactly where named *.qkv")
    assert all(v["notices"][0] < 1e-9 for v in found["verdicts"])
    for text in (out, (folder / "o.html").read_text()):
        assert "named *.qkv" in text
        assert "would notice" in text
        assert "--problem own_things:small --seed 0" in text
    assert 'failures="3"' in (folder / "o.xml").read_text()


def test_the_command_tells_what_went_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def says(subject: str, problem: str, *more: str) -> tuple[int, str]:
        code = main(["check", f"own_things:{subject}", "--problem", problem, *more])
        told = capsys.readouterr()
        return code, told.out + told.err

    here = "--in-process"
    for problem, what in {
        "own_things:smal": "did you mean 'small'?",
        "own_things": "write it as package.module:name",
        "nowhere:small": "cannot be imported",
        "own_things:breaks": "it raised ValueError: no data",
        "own_things:MODULE": "has no 'MODULE'",
        "own_things:hooks": "make it an ekfac_ref.Problem",
    }.items():
        code, told = says("hooks", problem, here)
        assert code == 2
        assert what in told
    code, told = says("hooks", "own_things:small", here, "--law", "recut")
    assert code == 3
    assert "leave out --problem" in told
    code, told = says("ends", "own_things:small", "--law", "trace")
    assert code == 3
    assert "its process ended with exit code 7" in told
    code = main(["check", "own_things:hooks", "--law", "spectrum", here])
    assert code == 3
    assert "asked with --problem alone" in capsys.readouterr().err


def test_a_law_that_is_blunt_everywhere_fails_no_suite() -> None:
    report = ct.check_on(hooks, transformer(4, 6, GPT(20, 16, 1, 6)), laws=["trace", "eigenvalues"])
    blunt = replace(report.verdicts[0], status=ct.Status.INCONCLUSIVE)
    suite = as_junit(replace(report, verdicts=[blunt, report.verdicts[1]]), "")
    assert 'errors="0"' in suite
    assert 'skipped="1"' in suite


def test_two_processes_understand_each_other() -> None:
    trouble = Trouble("what", "where", None, "heard", Blame.LOST)
    said = [
        PartSaid("trace", True, Weighed(0.5, 1e-9), "", 0.25, 2.0, ""),
        PartSaid("psd", False, None, "off", inf, inf, "it raised"),
    ]
    for judged in (JudgedPart(said, None, {"E": ["times 2"], "K": []}), JudgedPart([], trouble)):
        plain = json.loads(json.dumps(own_wire.judged_as_plain(judged)))
        assert asdict(own_wire.judged_from(plain, "heard")) == asdict(judged)
    opened = Opened(["a"], [("Linear",)], "float32", "none", trouble)
    plain = json.loads(json.dumps(own_wire.opened_as_plain(opened)))
    assert asdict(own_wire.opened_from(plain, "heard")) == asdict(opened)
    asked = AskedOnce(["model: changed"], trouble)
    plain = json.loads(json.dumps(own_wire.asked_as_plain(asked)))
    assert asdict(own_wire.asked_from(plain, "heard")) == asdict(asked)
