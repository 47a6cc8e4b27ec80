"""A report as one page that needs nothing else: styles and pictures are inside."""

import base64
import io
from dataclasses import dataclass
from importlib.resources import files

import torch
from jinja2 import Environment, StrictUndefined
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from torch import Tensor

from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.problems.source import script
from ekfac_ref.conformance.reports.terminal import one_line, printable, worst
from ekfac_ref.conformance.run.time_limit import at_most
from ekfac_ref.conformance.run.verdicts import Report, Status, Trouble, Verdict
from ekfac_ref.conformance.subjects.subject import Subject
from ekfac_ref.conformance.subjects.trial import Case, Trial
from ekfac_ref.conformance.truth import eigengaps, oracle

DIVERGING = "RdBu_r"  # white is zero
SECONDS = 20.0  # for the subject to answer once more
TONES = {
    Status.PASS: "good",
    Status.FAIL: "bad",
    Status.EXPECTED_FAILURE: "odd",
    Status.UNEXPECTED_PASS: "bad",
    Status.NOT_OFFERED: "none",
    Status.INCONCLUSIVE: "odd",
}


@dataclass(frozen=True)
class Picture:
    """What is expected of the layer that is furthest off, and what the subject answers.

    Attributes:
        png: heat maps of the two matrices and of their difference, in base64.
        caption: which layer, how far off, and what to make of it.
    """

    png: str
    caption: str


def page(report: Report, on_trial: Subject, subject: str | None, rerun: str) -> str:
    """The report as HTML; ``on_trial`` answers once more for every picture.

    ``subject`` is the path that problems as Python load, None for an unknown one; ``rerun`` is the
    command that makes the same run again.
    """
    source = files("ekfac_ref.conformance.reports").joinpath("page.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"printable": printable, "one_line": one_line}
    failures = [
        (
            verdict,
            script(verdict.problem, verdict.law.name, subject),
            picture(on_trial, verdict) if report.complete else "No picture: it was interrupted.",
        )
        for verdict in report.verdicts
        if verdict.problem is not None
    ]
    return environment.from_string(source).render(
        report=report,
        failures=failures,
        troubles=_folded(report.troubles, subject),
        rerun=rerun,
        tones=TONES,
        worst=worst,
    )


def picture(on_trial: Subject, verdict: Verdict) -> Picture | str:
    """The layer that is furthest off where the law is broken; or why there is no picture."""
    assert verdict.problem is not None
    try:
        with at_most(SECONDS):
            cases = Trial(on_trial, verdict.problem).cases
            matrices = [_compared(case, verdict.law.lane) for case in cases]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a subject may raise
        return f"No picture: asked once more, it raised {type(error).__name__}: {error}"
    off = [float((got - expected).norm()) for _, expected, got in matrices]
    furthest = max(range(len(off)), key=off.__getitem__)
    case, (name, expected, got) = cases[furthest], matrices[furthest]
    caption = f"Layer {case.layer!r}: |{name} - expected| = {off[furthest]:.3g}"
    caption += f", |expected| = {float(expected.norm()):.3g}."
    if name == "E" and eigengaps.gap(case.seen) < eigengaps.GATE:
        caption += (
            " The factors have eigenvalues that are equal, or nearly: what is expected is one "
            "right matrix of several, and the difference alone proves nothing."
        )
    return Picture(_heat_maps(name, expected, got), caption)


def _compared(case: Case, lane: Lane) -> tuple[str, Tensor, Tensor]:
    """(name, what is expected, what is answered) of the matrix that the lane is about."""
    if lane.name == "KFAC" and case.K is not None:
        B, A = oracle.factors(case.seen)
        return "K", torch.kron(B, A), case.K.matrix
    if lane.name == "FISHER" and case.F is not None:
        return "F", oracle.fisher(case.seen), case.F.matrix
    return "E", oracle.ekfac_matrix(case.seen), case.E.matrix


def _heat_maps(name: str, expected: Tensor, got: Tensor) -> str:
    figure = Figure(figsize=(9, 3.3), dpi=110, facecolor="white", layout="constrained")
    titles = (f"{name} expected", f"{name} of the subject", "difference")
    panels = zip(figure.subplots(1, 3), titles, (expected, got, got - expected), strict=True)
    largest = max(float(expected.abs().max()), float(got.abs().max())) or 1.0
    norm = SymLogNorm(linthresh=largest / 10, vmin=-largest, vmax=largest)
    for axes, title, matrix in panels:
        image = axes.imshow(matrix.numpy(), cmap=DIVERGING, norm=norm, interpolation="nearest")
        axes.set_title(title, fontsize=10)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#b8b8b8")
    bar = figure.colorbar(image, ax=figure.axes, shrink=0.85)
    bar.minorticks_off()
    ticks = [share * largest for share in (-1, -0.1, 0, 0.1, 1)]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    bar.ax.tick_params(labelsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return base64.b64encode(file.getvalue()).decode()


def _folded(troubles: list[Trouble], subject: str | None) -> list[tuple[Trouble, int, str]]:
    """Of each kind of trouble (the first one, how many there are, the problem of the first)."""
    kinds: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        kinds.setdefault(trouble.what, []).append(trouble)
    return [(same[0], len(same), script(same[0].problem, None, subject)) for same in kinds.values()]
