"""A report as one page that needs nothing else: styles and pictures are inside."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from torch import Tensor

from ekfac_ref.conformance.findings.board import Standing
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import FAULT, Status, Trouble
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Lane
from ekfac_ref.conformance.problems.source import Written
from ekfac_ref.conformance.reports.formulas import with_formulas
from ekfac_ref.conformance.reports.furthest import Furthest
from ekfac_ref.conformance.reports.terminal import (
    asked_about,
    how_asked,
    how_far,
    one_line,
    printable,
    standing,
    worst,
    would_notice,
)

DIVERGING = "RdBu_r"  # white is zero
TONES = {
    Status.PASS: "good",
    Status.FAIL: "bad",
    Status.EXPECTED_FAILURE: "odd",
    Status.UNEXPECTED_PASS: "bad",
    Status.NOT_OFFERED: "none",
    Status.INCONCLUSIVE: "odd",
    Status.IN_DOUBT: "odd",
    Status.REFUSED: "odd",
}
STANDINGS = {
    Standing.WRONG: "bad",
    Standing.REFUSES: "odd",
    Standing.NOT_ANSWERED: "odd",
    Standing.IN_DOUBT: "odd",
    Standing.EXACT: "good",
    Standing.NOT_DRAWN: "none",
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


# Of a problem and the lane of a law broken there: what is furthest off, or why nobody knows.
Look = Callable[[Written, Lane], Furthest | str]


def page(report: Report, look: Look, subject: str | None, rerun: str) -> str:
    """The report as HTML; ``look`` has the subject answer once more for every picture.

    ``subject`` is the path that problems as Python load, None for an unknown one; ``rerun`` is the
    command that makes the same run again.
    """
    source = files("ekfac_ref.conformance.reports").joinpath("page.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters |= {"printable": printable, "one_line": one_line}
    environment.filters |= {"formulas": with_formulas, "found": _found}
    exhibits = [
        (
            exhibit,
            exhibit.problem.script(exhibit.law.name, subject),
            picture(look(exhibit.problem, exhibit.law.lane))
            if report.complete
            else "No picture: it was interrupted.",
        )
        for exhibit in report.exhibits
    ]
    told = {name for exhibit in report.exhibits for name in exhibit.says}
    failures = [
        (verdict, verdict.problem.script(verdict.law.name, subject) if verdict.problem else "")
        for verdict in report.verdicts
        if verdict.broken and verdict.law.name not in told
    ]
    first = [(report.first_of(one), len(one.problems)) for one in report.refusals]
    others = {
        kind: [score.name for score in report.scoreboard if score.standing is kind]
        for kind in (Standing.EXACT, Standing.NOT_DRAWN)
    }
    return environment.from_string(source).render(
        report=report,
        exhibits=exhibits,
        failures=failures,
        troubles=_folded(report.troubles, subject),
        refusals=[(one, times, _script_of(one, subject)) for one, times in first],
        told=[score for score in report.scoreboard if score.standing not in others],
        others=[(kind, names) for kind, names in others.items() if names],
        standings=STANDINGS,
        standing=standing,
        how_far=how_far,
        laws=LAWS,
        rerun=rerun,
        how=how_asked(report),
        fault=FAULT if report.faults else "",
        tones=TONES,
        worst=worst,
        would_notice=would_notice,
        about=asked_about(report),
        sees=any(verdict.notices for verdict in report.verdicts),
    )


def _found(says: str) -> Markup:
    """What a law has found: the formula that is broken, and by how much."""
    law, colon, how_far_off = says.partition(": ")
    return with_formulas(law) + colon + how_far_off


def picture(found: Furthest | str) -> Picture | str:
    """The layer that is furthest off where the law is broken; or why there is no picture."""
    if isinstance(found, str):
        return f"No picture: {found}"
    off, name = float((found.got - found.expected).norm()), found.name
    size = float(found.expected.norm())
    caption = f"Layer {found.layer!r}: {name} is off by {off:.3g}; the norm expected is {size:.3g}."
    if found.one_of_several:
        caption += (
            " The factors have eigenvalues that are equal, or nearly: what is expected is one "
            "right matrix of several, and the difference alone proves nothing."
        )
    return Picture(_heat_maps(name, found.expected, found.got), caption)


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
    return [(same[0], len(same), _script_of(same[0], subject)) for same in kinds.values()]


def _script_of(trouble: Trouble, subject: str | None) -> str:
    return trouble.problem.script(None, subject) if trouble.problem else ""
