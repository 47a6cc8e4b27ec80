"""The command, the three reports, problems as Python, and the laws as somebody else's tests."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.utils._pytree import tree_leaves

import ekfac_ref as ek
from ekfac_ref import cli, extras
from ekfac_ref.cli import main
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Status, Verdict
from ekfac_ref.conformance.for_pytest import conformance_tests
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import BY_CHANCE
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import problems_for
from ekfac_ref.conformance.problems.source import script
from ekfac_ref.conformance.reports.formulas import with_formulas
from ekfac_ref.conformance.run.examiner import Found, Here
from ekfac_ref.conformance.run.profile import PROFILES, Profile
from ekfac_ref.conformance.run.run import Run
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.examples import reference
from tests.support.fresh import CONFTEST, python

MUTANT = "twice"


@pytest.fixture(autouse=True)
def _as_small_as_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROFILES, "demo", Profile("demo", 4, 0.5))


def test_a_broken_law_in_all_three_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ekfac_ref.conformance.process.apart.Apart.diagnose",
        lambda self, seed, problems=(): Found(sentence="It is <twice>."),
    )
    page, data = tmp_path / "out.html", tmp_path / "out.json"
    asked = ["check", f"mutant:{MUTANT}", "--profile", "demo", "--law", "trace", "--law", "psd"]
    code = main([*asked, "--report", str(page), "--json", str(data)])
    out, found, html = capsys.readouterr().out, json.loads(data.read_text()), page.read_text()
    assert code == found["exit_code"] == 1
    broken, held = sorted(found["verdicts"], key=lambda v: v["status"])
    assert (broken["law"], broken["status"], held["law"]) == ("trace", "FAIL", "psd")
    assert held["asked"] == found["problems"] == 4

    statement = LAWS["trace"].statement
    assert f"must hold: {statement}" in out
    assert f"found:     {broken['broken']}" in out
    assert broken["problem"] in out
    rerun = f"ekfac-ref {' '.join(asked)}".replace("demo", "demo --seed 0")
    assert f"    {rerun}\n" in out
    assert found["rerun"] == rerun
    assert out.splitlines()[-1] == found["summary"] == "It does not conform (broken: trace)."

    assert found["diagnosis"] == "It is <twice>."
    assert "\nDiagnosis: It is <twice>.\n" in out
    assert "<li>Diagnosis: It is &lt;twice&gt;.</li>" in html

    assert "http" not in re.sub(r'src="data:image/png;base64,[^"]*"', "", html)
    assert html.count('src="data:image/png;base64,') == 1
    assert not re.search(r"<(script|link|iframe)|@import|url\(", html)
    assert rerun in html
    assert html.count(str(with_formulas(statement))) == 2  # in the table, and where it is broken
    assert f"{with_formulas('tr E = tr F')}: residual" in html
    assert not re.search(r"tr E|\|G_nc\||M v", html)

    # The problem runs alone, and breaks the same law by as much.
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "alone.py").write_text(broken["problem"])
    ran = python(empty, str(tmp_path / "alone.py"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{{'trace': LawBroken({broken['broken']!r})}}\n"


def test_a_subject_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine_here.py").write_text("import ekfac_ref\n\nekfac = ekfac_ref.ekfac\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    assert main(["check", "mine_here:ekfac", "--profile", "demo", "--law", "trace"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "It conforms: 1 law holds, on 4 problems."
    assert "mine_here" not in sys.modules  # but in a process of its own


def test_it_is_installed_as_a_command() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    assert 'ekfac-ref = "ekfac_ref.cli:main"' in pyproject.read_text()
    assert callable(cli.main)


def test_power_asks_about_as_many_problems_as_a_quick_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of fewer it would say that a check lets mistakes pass which a check notices."""
    asked: list[int] = []
    monkeypatch.setattr(cli, "power_command", lambda options: asked.append(options.problems) or 0)
    assert main(["power", "some:subject"]) == 0
    assert main(["power", "some:subject", "--problems", "3"]) == 0
    assert asked == [PROFILES["quick"].problems, 3]
    with pytest.raises(SystemExit):
        main(["power", "some:subject", "--problems", "0"])
    assert "give 1 or more" in capsys.readouterr().err


def test_laws(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["laws"]) == 0
    out = capsys.readouterr().out
    assert all(law.name in out for law in LAWS.values())
    for law in LAWS.values():
        assert main(["laws", law.name]) == 0
        out = capsys.readouterr().out
        assert f"must hold: {law.statement}\n" in out
        assert law.source in out
    assert main(["laws", "trace"]) == 0
    assert MUTANT in capsys.readouterr().out


def test_mutants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mutants"]) == 0
    out = capsys.readouterr().out
    assert all(mutant.name in out for mutant in MUTANTS.values())
    for mutant in MUTANTS.values():
        assert main(["mutants", mutant.name]) == 0
        out = capsys.readouterr().out
        assert f"{mutant.mistake}\n" in out
        assert mutant.story in out
        assert mutant.proof in out


@pytest.fixture
def _undiagnosed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Here, "diagnose", lambda self, seed, problems=(): Found(sentence="It is."))


@pytest.mark.usefixtures("_undiagnosed")
def test_it_stops_when_enough_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["check", f"mutant:{MUTANT}", "--profile", "demo", "--law", "trace", "--in-process"]
    assert main([*asked, "--max-fail", "2"]) == 1
    out = capsys.readouterr().out
    assert "Beside the verdict: stopped after 2 of 4 problems, as --max-fail says" in out
    assert "--law trace --max-fail 2 --in-process" in out
    assert main([*asked, "--max-fail", "5"]) == 1
    assert "stopped after" not in capsys.readouterr().out


@pytest.mark.usefixtures("_undiagnosed")
def test_several_side_by_side(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["--profile", "demo", "--law", "trace", "--law", "psd", "--law", "kfac", "--in-process"]
    two = [f"mutant:{MUTANT}", "mutant:kfac-over-n-twice", "ekfac_ref.examples:reference"]
    assert main(["check", *two, *asked]) == 1
    out = capsys.readouterr().out
    assert re.search(r"mutant twice: It does not conform \(broken: trace\)", out)
    assert "reference: It conforms: 3 laws hold, on 4 problems." in out
    assert re.search(r"trace +│ FAIL +│ pass +│ pass", out)
    assert re.search(r"kfac +│ - +│ FAIL +│ pass", out)
    assert "psd" not in out
    assert main(["check", two[2], two[2], *asked]) == 0
    assert "│" not in capsys.readouterr().out
    assert main(["check", *two, *asked, "--json", str(tmp_path / "o.json")]) == 2
    assert "are of one subject" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["laws", "tracy"],
            "invalid choice: 'tracy'; did you mean 'trace'? choose among ['linear',",
        ),
        (["mutants", "tracy"], f"invalid choice: 'tracy'; choose among ['{next(iter(MUTANTS))}'"),
        (["check", "a:b", "--law", "tracy"], "invalid choice: 'tracy'; did you mean 'trace'?"),
        (["check", "a:b", "--profile", "slow"], "invalid choice: 'slow'; choose among ['demo',"),
        (["check", "a:b", "--profile", "full", "--problem", "c:d"], "not allowed with argument"),
        (["check", "a:b", "--max-fail", "0"], "0 is no number of problems; give 1 or more"),
        (["check", "a:b", "--seconds", "-1"], "-1 is no time limit; give seconds above 0"),
        (["check", "a:b", "--json", "no/such/o.json"], "not a file in a folder that is there"),
        (["check", "a:b", "--report", "."], "not a file in a folder that is there"),
        ([], "the following arguments are required: command"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err


def test_a_problem_of_ones_own_is_no_count_of_drawn_ones(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["check", "a:b", "--problem", "c:d", "--max-fail", "2"]) == 2
    assert "--max-fail counts drawn problems; leave it out" in capsys.readouterr().err


def test_a_page_needs_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "jinja2" else object())
    assert main(["check", "no_such_module:it", "--report", str(tmp_path / "o.html")]) == 2
    says = "ekfac-ref: --report needs jinja2: install with pip install 'ekfac-ref[report]'\n"
    assert capsys.readouterr().err == says


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (Status.PASS, 0, "It conforms: 1 law holds, on 5 problems."),
        (Status.EXPECTED_FAILURE, 0, "It conforms: 0 laws hold, 1 known to be broken, on 5"),
        (Status.FAIL, 1, "It does not conform (broken: linear)."),
        (Status.UNEXPECTED_PASS, 1, "It does not conform (known as deviations, but held: linear)"),
        (Status.INCONCLUSIVE, 5, "Inconclusive: answers far off would pass linear too; ask more."),
    ],
)
def test_words_for_exit_codes(status: Status, code: int, says: str) -> None:
    report = Report("it", "demo", 0, [Verdict(LAWS["linear"], status, 1, 0.0)], [], 5, 5)
    assert report.exit_code == code
    assert report.summary.startswith(says)


def test_words_for_a_law_that_was_not_asked() -> None:
    never = Verdict(LAWS["linear"], Status.INCONCLUSIVE, 0, 0.0)
    report = Report("it", "demo", 0, [never], [], 5, 5)
    assert report.summary == "Inconclusive: no problem was one to ask linear of; ask more."


def test_nothing_is_known_of_one_that_never_answers() -> None:
    def never(problem: ek.Problem) -> Any:
        raise ValueError

    report = Run(Here(Subject("never", never)), Profile("one", 1, 0.0)).report()
    asked = {v.status for v in report.verdicts if v.law.lane not in BY_CHANCE}  # in full alone
    assert asked == {Status.INCONCLUSIVE}


def rebuilt(problem: ek.Problem) -> tuple[ek.Problem, str]:
    """The problem that the source makes, without the question; and the source."""
    source = script(problem, "trace", "ekfac_ref.examples:reference")
    namespace: dict[str, Any] = {}
    exec(source[: source.index("subject = ct.load(")], namespace)
    return namespace["problem"], source


@settings(max_examples=40)
@given(problems_for(Abilities()))
def test_a_problem_as_python_is_the_same_problem(problem: ek.Problem) -> None:
    again, source = rebuilt(problem)
    assert max(map(len, source.splitlines())) <= 100
    assert str(again.model) == str(problem.model)
    assert again.model.training == problem.model.training
    old, new = problem.model.state_dict(), again.model.state_dict()
    assert list(old) == list(new)
    assert all(same(old[name], new[name]) for name in old)
    assert [name for name, _ in again.model.named_parameters()] == [
        name
        for name, _ in problem.model.named_parameters()  # what is tied comes once
    ]
    for name in ("likelihood", "fisher", "sharing", "layers"):
        assert getattr(again, name) == getattr(problem, name)
    before = [tuple(batch) for batch in problem.batches]
    leaves = zip(tree_leaves(before), tree_leaves(again.batches), strict=True)
    assert all(same(one, other) for one, other in leaves)
    assert (again.mask is None) == (problem.mask is None)
    if again.mask is not None and problem.mask is not None:
        inputs = before[0][0]
        assert torch.equal(again.mask(inputs), problem.mask(inputs))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def test_what_no_drawn_problem_has() -> None:
    """A module in two places, a parameter that is frozen, named layers, a sampled Fisher."""
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, nn.ReLU(inplace=True), shared, nn.Linear(2, 1, bias=False))
    model[3].weight.requires_grad_(False)
    data = [(torch.randn(2, 2), torch.randn(2, 1))]
    fisher = ek.Sampled(draws=2)
    again, source = rebuilt(ek.Problem(model, data, ek.Gaussian(), fisher, layers=("0",)))
    assert again.model[2] is again.model[0]
    assert [p.requires_grad for p in again.model.parameters()] == [True, True, False]
    assert again.model.training
    assert again.layers == ("0",)
    assert again.fisher == fisher
    assert "ek.Sampled(draws=2)" in source


def test_the_source_prints_what_the_laws_say(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Linear(2, 1).double().eval()
    data = [(torch.randn(2, 2).double(), torch.randn(2, 1).double())]
    problem = ek.Problem(model, data, ek.Gaussian())
    exec(script(problem, "trace", "ekfac_ref.examples:reference"), {})
    assert capsys.readouterr().out == "{'trace': None}\n"
    exec(script(problem, None, "mutant:half-lambda"), {})
    assert "'symmetry': None, 'psd': None, 'trace': LawBroken(" in capsys.readouterr().out


THREE_LINES = f"""
from dataclasses import replace

import ekfac_ref
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.for_pytest import conformance_tests

tiny = ct.Profile("tiny", 3, 0.0)
mutant = ct.MUTANTS[{MUTANT!r}]
calls = []

def counted(problem):
    calls.append(problem)
    return ekfac_ref.ekfac(problem)

def never(problem):
    raise ValueError("never")

test_good = conformance_tests(counted, tiny)
known = {{"trace": "on purpose", "psd": "we thought so"}}
test_mutant = conformance_tests(mutant.subject, tiny, known=known)
test_never = conformance_tests(never, replace(tiny, problems=1))

def test_one_run_for_all():
    test_good("trace")
    asked = len(calls)
    test_good("psd")
    assert len(calls) == asked > 0
"""


def test_laws_as_tests_in_a_foreign_suite(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_theirs.py").write_text(THREE_LINES)
    ran = python(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", "-vv", "-rs", ".")
    found = dict(
        re.findall(r"^test_theirs\.py::(\S+) (?:<- \S+ )?([A-Z]+)", ran.stdout, re.MULTILINE)
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert len(found) == 3 * (len(LAWS) + 1) + 1
    assert found["test_good[enough-is-answered]"] == "PASSED"
    assert found["test_good[trace]"] == found["test_good[solve-1]"] == "PASSED"
    assert found["test_good[kfac]"] == "SKIPPED"
    assert found["test_mutant[trace]"] == "XFAIL"
    assert found["test_mutant[psd]"] == found["test_mutant[eigenvalues]"] == "FAILED"
    assert found["test_never[enough-is-answered]"] == "FAILED"
    assert found["test_never[trace]"] == "FAILED"
    assert found["test_one_run_for_all"] == "PASSED"
    assert "not offered: it needs a KFAC block" in ran.stdout
    assert "it holds, but is known as a deviation: 'we thought so'" in ran.stdout
    assert "on this problem, which runs alone:" in ran.stdout
    assert "it raised ValueError: never (test_theirs.py, line " in ran.stdout


def test_names_that_are_not_there() -> None:
    with pytest.raises(ek.ProblemError, match="there is no 'tracy'; did you mean 'trace'"):
        conformance_tests(reference, known={"tracy": "?"})
    with pytest.raises(ek.ProblemError, match="there is no 'slow'; choose among \\['demo'"):
        conformance_tests(reference, "slow")
