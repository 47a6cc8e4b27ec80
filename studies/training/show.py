"""What is printed and written: tables, the picture, and every number as JSON."""

import os
import time
from pathlib import Path

from rich.console import Console

from studies.looks import progress
from studies.training import figure, results, table
from studies.training.outcomes import outcomes
from studies.training.phases import Budget, train, tune
from studies.training.pool import RunAll
from studies.training.settings import DECAY, KL_CLIP, MOMENTUM, RECOMPUTE_EVERY
from studies.training.tasks import Task

TITLE = "SGD with momentum, Adam, KFAC and EKFAC on scikit-learn's digits"


def compare(out: Path, tasks: tuple[Task, ...], budget: Budget, run_all: RunAll) -> None:
    """Tune, train, compare; print it, and write it to the folder ``out``."""
    start = time.perf_counter()
    console = Console(highlight=False, record=True)
    console.print(f"\n[bold]{TITLE}[/]\n\n{settings_of(budget)}\n")
    with progress(console) as bars:
        choices = tune(bars, run_all, tasks, budget)
        curves = train(bars, run_all, tasks, choices, budget)
    found = {task.name: outcomes(curves[task.name]) for task in tasks}
    for task in tasks:
        console.print(f"\n[bold]{task.name}[/]: what tuning chose\n")
        console.print(table.choice_table(choices[task.name], budget.tuning))
        console.print(f"\n[bold]{task.name}[/]: medians over {len(budget.seeds)} seeds\n")
        console.print(table.step_table(found[task.name]))
        console.print()
        console.print(table.second_table(found[task.name]))
    console.print(f"\n{how_to_read(budget)}\n")
    figure.draw(out / "losses.png", curves)
    results.write(out / "results.json", budget, choices, curves, found)
    minutes = (time.perf_counter() - start) / 60
    console.print(
        f"{minutes:.1f} minutes on {os.cpu_count()} cores. Picture, tables and all numbers are in "
        f"[bold]{out}[/].",
        soft_wrap=True,
    )
    (out / "tables.txt").write_text(console.export_text())


def settings_of(budget: Budget) -> str:
    """What is the same for all optimizers, and what a run is, in words."""
    return (
        f"Every setting of a grid gets {budget.tuning} steps with one seed, and the lowest full "
        f"training loss decides; then, with {len(budget.seeds)} other seeds, SGD and Adam get "
        f"{budget.steps} steps, KFAC and EKFAC {budget.curvature_steps}. "
        "Initialisation and batches of 100 depend on the seed alone. "
        f"Momentum is {MOMENTUM} (Adam: torch's defaults). KFAC and EKFAC sample one label per "
        f"image from the model, fade their running means by {DECAY} a step, take new eigenbases "
        f"every {RECOMPUTE_EVERY} steps and clip a step to {KL_CLIP} nats. A run whose loss is not "
        "a number, or 100 times the first, has diverged: its loss counts as infinite."
    )


def how_to_read(budget: Budget) -> str:
    """What the columns of the tables mean, in words."""
    return (
        "[bold]The target[/] is, for each seed, the full training loss of SGD after "
        f"{budget.steps} steps; steps are counted to the first loss at or below it, for SGD too. "
        "Seconds leave out the time of measuring the loss. [bold]ms a step[/] is the mean over a "
        "run, so new eigenbases are paid for in it. All ratios are ratios of medians."
    )
