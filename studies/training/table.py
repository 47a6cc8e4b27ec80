"""What was chosen, what it reached, and EKFAC's ratios beside its aims."""

import math
from collections.abc import Callable

from rich.table import Table

from studies.training.compare import Figures, Spread, ratio
from studies.training.tuning import Choice, values

AT_MOST = {"SGD": 1 / 2, "KFAC": 1.05}  # EKFAC's steps over theirs, on the autoencoder
WANTED = {"SGD": 1 / 3}


def choice_table(choices: dict[str, Choice], budget: int) -> Table:
    """One line per optimizer: its best setting, and whether that is an end of its grid."""
    table = _table("settings\ntried", "of them\ndiverged", "learning\nrate", "damping")
    table.add_column(f"loss after\n{budget} steps", justify="right")
    table.add_column("at an end\nof its grid", justify="right")
    for name, choice in choices.items():
        setting = values(choice.setting)
        table.add_row(
            name,
            str(choice.tried),
            str(choice.diverged),
            f"{setting['lr']:g}",
            f"{setting['damping']:g}" if "damping" in setting else "",
            _loss(choice.loss),
            f"[bold red]{', '.join(choice.ends)}[/]" if choice.ends else "no",
        )
    return table


def step_table(figures: dict[str, Figures]) -> Table:
    """One line per optimizer: steps to the target and the loss at the end, over the seeds."""
    table = _table("steps to\nthe target", "lowest -\nhighest", "over\nSGD's", "over\nKFAC's")
    for column in ("steps\nin all", "loss\nafter all"):
        table.add_column(column, justify="right")
    for name, f in figures.items():
        table.add_row(
            name,
            _count(f.steps.median),
            _range(f.steps, _count),
            _over(f.steps, figures["SGD"].steps),
            _over(f.steps, figures["KFAC"].steps),
            str(f.last_step),
            _loss(f.last_loss.median),
        )
    return table


def second_table(figures: dict[str, Figures]) -> Table:
    """One line per optimizer: the same in seconds, and what one step costs."""
    table = _table("seconds to\nthe target", "lowest -\nhighest", "over\nSGD's", "over\nKFAC's")
    table.add_column("ms for\na step", justify="right")
    table.add_column("over\nSGD's", justify="right")
    for name, f in figures.items():
        table.add_row(
            name,
            _number(f.seconds.median),
            _range(f.seconds, _number),
            _over(f.seconds, figures["SGD"].seconds),
            _over(f.seconds, figures["KFAC"].seconds),
            _number(1000 * f.seconds_per_step.median),
            _over(f.seconds_per_step, figures["SGD"].seconds_per_step),
        )
    return table


def aims_table(figures: dict[str, Figures]) -> Table:
    """EKFAC's way to the target over SGD's and KFAC's: in steps, beside the aims."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("EKFAC", "measured", "aim", ""):
        table.add_column(column)
    ekfac = figures["EKFAC"]
    for name, limit in AT_MOST.items():
        measured = ratio(ekfac.steps, figures[name].steps)
        wanted = f", wanted {WANTED[name]:.2f}" if name in WANTED else ""
        table.add_row(
            f"steps over {name}'s",
            _over(ekfac.steps, figures[name].steps),
            f"at most {limit:.2f}{wanted}",
            "reached" if measured <= limit else "[bold red]not reached[/]",
        )
    for name in AT_MOST:
        seconds = _over(ekfac.seconds, figures[name].seconds)
        table.add_row(f"seconds over {name}'s", seconds, "no limit")
    for name in AT_MOST:
        seconds = _over(ekfac.seconds_per_step, figures[name].seconds_per_step)
        table.add_row(f"time of a step over {name}'s", seconds, "no limit")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("optimizer")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _over(one: Spread, two: Spread) -> str:
    over = ratio(one, two)
    return f"{over:.2f}" if math.isfinite(over) else "-"


def _count(steps: float) -> str:
    return "never" if steps == math.inf else f"{steps:.0f}"


def _number(value: float) -> str:
    return "never" if value == math.inf else f"{value:#.3g}"


def _loss(value: float) -> str:
    if value == math.inf:
        return "diverged"
    return f"{value:#.4g}" if value >= 0.01 else f"{value:.1e}"


def _range(spread: Spread, text: Callable[[float], str]) -> str:
    return f"{text(spread.low)} - {text(spread.high)}"
