"""What was chosen, what it reached, and the ratios beside those that were asked for."""

from rich.table import Table

from ekfac_ref.train.compare import Figures, ratio
from ekfac_ref.train.tuning import Choice, values

AT_MOST = {"SGD": 1 / 2, "KFAC": 1.05}  # EKFAC's steps over theirs, on the autoencoder
WANTED = {"SGD": 1 / 3}


def choice_table(choices: dict[str, Choice], budget: int) -> Table:
    """One line per optimizer: its best setting."""
    table = _table(
        "optimizer", "settings\ntried", "of them\ndiverged", "learning\nrate", "damping",
        f"loss after\n{budget} steps",
    )  # fmt: skip
    for name, choice in choices.items():
        setting = values(choice.setting)
        ends = f"[bold red]{' and '.join(choice.ends)} at an end of the grid[/]"
        table.add_row(
            name,
            str(choice.tried),
            str(choice.diverged),
            f"{setting['lr']:g}",
            f"{setting['damping']:g}" if "damping" in setting else "",
            f"{choice.loss:.4g}",
            ends if choice.ends else "",
        )
    return table


def figure_table(figures: dict[str, Figures], steps: int) -> Table:
    """One line per optimizer: medians over the seeds, and ranges."""
    table = _table(
        "optimizer", "steps to\nthe target", "range", "of\nSGD's", "seconds to\nthe target",
        "range", "of\nSGD's", "ms a\nstep", "of\nSGD's", f"loss after\n{steps} steps", "range",
    )  # fmt: skip
    sgd = figures["SGD"]
    for name, f in figures.items():
        table.add_row(
            name,
            _whole(f.steps.median),
            _range(f.steps, _whole),
            _ratio(ratio(f.steps, sgd.steps)),
            _short(f.seconds.median),
            _range(f.seconds, _short),
            _ratio(ratio(f.seconds, sgd.seconds)),
            _short(1000 * f.seconds_per_step.median),
            _ratio(ratio(f.seconds_per_step, sgd.seconds_per_step)),
            f"{f.last_loss.median:.4g}",
            _range(f.last_loss, lambda x: f"{x:.4g}"),
        )
    return table


def asked_table(figures: dict[str, Figures]) -> Table:
    """EKFAC's steps over SGD's and KFAC's, beside what was asked for."""
    table = _table("EKFAC's steps to the target", "measured", "asked", "")
    for name, limit in AT_MOST.items():
        measured = ratio(figures["EKFAC"].steps, figures[name].steps)
        wanted = f", wanted {WANTED[name]:.2f}" if name in WANTED else ""
        table.add_row(
            f"of {name}'s",
            _ratio(measured),
            f"at most {limit:.2f}{wanted}",
            "reached" if measured <= limit else "[bold red]not reached[/]",
        )
    return table


def _table(left: str, *right: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(left)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _ratio(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"  # neither got there


def _whole(steps: float) -> str:
    return "never" if steps == math.inf else f"{steps:.0f}"


def _short(value: float) -> str:
    return "never" if value == math.inf else f"{value:.3g}"


def _range(spread: Spread, text: Callable[[float], str]) -> str:
    return f"{text(spread.low)} - {text(spread.high)}"
