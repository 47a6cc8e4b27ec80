"""What a subject's answers cannot show: fewer problems and fewer laws, fewer mistakes."""

import io
from dataclasses import replace

import torch
from rich.console import Console
from torch import nn

from ekfac_ref.conformance.diagnosis.blind_spots import Noticed, noticed, offered
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import draw_problems, mixtures
from ekfac_ref.conformance.reports.blind_spots import print_blind_spots
from ekfac_ref.conformance.subjects.subject import SAMPLED, WAYS
from ekfac_ref.examples import hooks, reference


def test_a_subject_of_linear_layers_reveals_scales_and_no_strides() -> None:
    problems = draw_problems(hooks.abilities, 6, 0)
    some = [m for m in MUTANTS.values() if m.name in {"half-lambda", "stride-forgotten"}]
    laws = offered(hooks, problems)
    found = {each.mutant.name: each for each in noticed(hooks, problems, laws, some)}
    assert found["half-lambda"].by == "trace"
    assert found["half-lambda"].after == 1
    assert found["stride-forgotten"].by == ""
    assert found["stride-forgotten"].after == 6


def test_a_mistake_in_what_the_subject_does_not_answer_goes_unnoticed() -> None:
    problems = draw_problems(reference.abilities, 6, 0)
    wrong_kfac = [MUTANTS["kfac-over-n-twice"]]
    doubled = [LAWS["doubled"]]  # asked of KFAC, where there is one
    for kfac, by in ((reference.kfac, "doubled"), (None, "")):
        (found,) = noticed(replace(reference, kfac=kfac), problems, doubled, wrong_kfac)
        assert found.by == by


def test_the_laws_are_those_that_its_answers_allow() -> None:
    abilities = Abilities(layers=(nn.Linear,))
    problems = draw_problems(abilities, 4, 0)
    everything = offered(replace(reference, abilities=abilities), problems)
    no_kfac = offered(replace(reference, kfac=None, abilities=abilities), problems)
    of_kfac = {law for law in LAWS.values() if law.lane in {Lane.KFAC, Lane.FACTORS}}
    assert of_kfac == {*everything} - {*no_kfac}


def test_what_is_not_noticed_is_printed_with_what_it_shows_on() -> None:
    mutants = MUTANTS
    found = [
        Noticed(mutants["half-lambda"], "trace", 1),
        Noticed(mutants["stride-forgotten"], "", 6),
    ]
    out = io.StringIO()
    three = list(LAWS.values())[:3]
    print_blind_spots(Console(file=out, width=200), "package:[bold]name", found, three, 6)
    printed = out.getvalue()
    assert "stride-forgotten" in printed
    assert mutants["stride-forgotten"].only in printed
    assert "half-lambda" not in printed
    assert "In the place of package:[bold]name, 1 of 2 known mistakes were noticed" in printed
    assert f"by the 3 of {len(LAWS)} laws" in printed


def test_whatever_a_subject_has_mutants_take_its_place_in_that() -> None:
    """A mistake in A shows in KFAC and what EKFAC inverts; one in the samples shows everywhere."""
    abilities = Abilities(
        layers=(nn.Linear,), positions=False, masks=False, dtypes=(torch.float64,)
    )
    problems = mixtures(abilities, 4, 0)
    two = [MUTANTS["bias-apart"], MUTANTS["last-batch-only"]]
    names = ("comparison", "kfac", "exact block", "P inverse", "diagonal", "sample gradients")
    laws = [LAWS[name] for name in (*names, "network")]
    found = {}
    for way in [way for way in WAYS if way not in ("optimizer", *SAMPLED)]:
        subject = replace(two[0].in_every_way.offering([way]), abilities=abilities)
        found[way] = [each.by for each in noticed(subject, problems, laws, two)]
    assert [by for by, _ in found.values()] == ["comparison", "kfac", "", "comparison", "", "", ""]
    assert all(by for _, by in found.values())
    training = [MUTANTS["ascent"], *two]  # which have no place in an optimizer
    laws = [LAWS["descent"]]
    one = replace(training[0].subject, abilities=abilities)
    assert [each.by for each in noticed(one, problems, laws, training)] == ["descent"]
    assert [
        *noticed(replace(two[0].subject, abilities=abilities), problems, laws, training[:1])
    ] == []
