"""What was chosen and what it reached, with the ratios to SGD and to KFAC, as tables."""

import math
from collections.abc import Callable

from rich.table import Table

from studies.training.outcomes import Outcome, Spread, ratio
from studies.training.tuning import Choice, values


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


def step_table(outcomes: dict[str, Outcome]) -> Table:
    """One line per optimizer: steps to the target and the loss at the end, over the seeds."""
    table = _table("steps to\nthe target", "lowest -\nhighest", "over\nSGD's", "over\nKFAC's")
    for column in ("steps\nin all", "loss\nafter all"):
        table.add_column(column, justify="right")
    for name, o in outcomes.items():
        table.add_row(
            name,
            _count(o.steps.median),
            _range(o.steps, _count),
            _over(o.steps, outcomes["SGD"].steps),
            _over(o.steps, outcomes["KFAC"].steps),
            str(o.last_step),
            _loss(o.last_loss.median),
        )
    return table


def second_table(outcomes: dict[str, Outcome]) -> Table:
    """One line per optimizer: seconds to the target, and what one step costs."""
    table = _table("seconds to\nthe target", "lowest -\nhighest", "over\nSGD's", "over\nKFAC's")
    table.add_column("ms for\na step", justify="right")
    table.add_column("over\nSGD's", justify="right")
    for name, o in outcomes.items():
        table.add_row(
            name,
            _number(o.seconds.median),
            _range(o.seconds, _number),
            _over(o.seconds, outcomes["SGD"].seconds),
            _over(o.seconds, outcomes["KFAC"].seconds),
            _number(1000 * o.seconds_per_step.median),
            _over(o.seconds_per_step, outcomes["SGD"].seconds_per_step),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("optimizer")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _over(one: Spread, two: Spread) -> str:
    over = ratio(one, two)  # 0 if it is two that never got there
    return f"{over:.2f}" if math.isfinite(over) and math.isfinite(two.median) else "-"


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
