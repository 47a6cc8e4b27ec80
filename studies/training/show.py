"""What is printed and written: tables, two pictures, and every number as JSON."""

import os
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from studies.training import figure, results, table
from studies.training.compare import figures
from studies.training.phases import Budget, age, train, tune
from studies.training.pool import RunAll
from studies.training.settings import DECAY, KL_CLIP, MOMENTUM, RECOMPUTE_EVERY
from studies.training.tasks import Task

TITLE = "SGD with momentum, Adam, KFAC and EKFAC on scikit-learn's digits"


def compare(out: Path, tasks: tuple[Task, ...], budget: Budget, run_all: RunAll) -> None:
    """Tune, train, compare; EKFAC has aims on the first task."""
    start = time.perf_counter()
    console = Console(highlight=False, record=True)
    console.print(f"\n[bold]{TITLE}[/]\n\n{settings_of(budget)}\n")
    with _progress(console) as progress:
        choices = tune(progress, run_all, tasks, budget)
        curves = train(progress, run_all, tasks, choices, budget)
        errors = age(progress, tasks[0], choices[tasks[0].name], budget)
    found = {task.name: figures(curves[task.name]) for task in tasks}
    for task in tasks:
        console.print(f"\n[bold]{task.name}[/]: what tuning chose\n")
        console.print(table.choice_table(choices[task.name], budget.tuning))
        console.print(f"\n[bold]{task.name}[/]: medians over {len(budget.seeds)} seeds\n")
        console.print(table.step_table(found[task.name]))
        console.print()
        console.print(table.second_table(found[task.name]))
    console.print()
    console.print(f"[bold]{tasks[0].name}[/]: EKFAC and its aims\n")
    console.print(table.aims_table(found[tasks[0].name]))
    console.print(f"\n{how_to_read(budget)}\n")
    figure.draw_losses(out / "losses.png", curves)
    figure.draw_errors(out / "ageing.png", errors)
    results.write(out / "results.json", budget, choices, curves, found, errors)
    minutes = (time.perf_counter() - start) / 60
    console.print(
        f"{minutes:.1f} minutes on {os.cpu_count()} cores. Pictures, tables and all numbers are in "
        f"[bold]{out}[/].",
        soft_wrap=True,
    )
    (out / "tables.txt").write_text(console.export_text())


def settings_of(budget: Budget) -> str:
    """What is the same for all, in words."""
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
    """What the columns mean."""
    return (
        "[bold]The target[/] is, for each seed, the full training loss of SGD after "
        f"{budget.steps} steps; steps are counted to the first loss at or below it, for SGD too. "
        "Seconds leave out the time of measuring the loss. [bold]ms a step[/] is the mean over a "
        "run, so new eigenbases are paid for in it. All ratios are ratios of medians."
    )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(24),
        MofNCompleteColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=console,
    )
