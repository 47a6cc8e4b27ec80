"""The two phases, each with its bars: every setting of every grid, then the best with all seeds."""

from dataclasses import dataclass

from rich.progress import Progress

from studies.training.outcomes import Curves
from studies.training.pool import RunAll
from studies.training.run import Curve, Job
from studies.training.settings import Ekfac, Kfac, Setting
from studies.training.tasks import Task
from studies.training.tuning import Choice, choose

Choices = dict[str, Choice]  # {optimizer's name: its best setting}


@dataclass(frozen=True)
class Budget:
    """How long runs are; in tuning it is the same for every optimizer.

    Attributes:
        tuning: steps of each setting of a grid, with ``tuning_seed``.
        steps: of SGD and Adam afterwards, with each of ``seeds``; SGD's last loss is the target.
        curvature_steps: of KFAC and EKFAC, which get to it in fewer and take longer for each.
    """

    tuning: int = 300
    tuning_seed: int = 0
    steps: int = 1000
    curvature_steps: int = 500
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)

    def steps_of(self, setting: Setting) -> int:
        """Length of a run with this setting, after tuning."""
        return self.curvature_steps if isinstance(setting, Kfac | Ekfac) else self.steps


def tune(
    bars: Progress, run_all: RunAll, tasks: tuple[Task, ...], budget: Budget
) -> dict[str, Choices]:
    """{task: its choices}, every setting with the same number of steps and the same seed."""
    tried = [(t, name, setting) for t in tasks for name in t.grids for setting in t.grids[name]]
    jobs = [Job(t, s, budget.tuning_seed, budget.tuning, budget.tuning) for t, _, s in tried]
    bar = {
        (t.name, name): bars.add_task(f"{t.name}: tune {name}", total=len(grid))
        for t in tasks
        for name, grid in t.grids.items()
    }
    lowest: dict[tuple[str, str], float] = {}

    def done(number: int, curve: Curve) -> None:
        task, name, _ = tried[number]
        loss = curve.losses[-1]
        lowest[task.name, name] = min(lowest.get((task.name, name), loss), loss)
        note = f"lowest loss {lowest[task.name, name]:.4g}"
        bars.update(bar[task.name, name], advance=1, note=note)

    curves = iter(run_all(jobs, done))
    return {
        t.name: {name: choose(grid, [next(curves) for _ in grid]) for name, grid in t.grids.items()}
        for t in tasks
    }


def train(
    bars: Progress,
    run_all: RunAll,
    tasks: tuple[Task, ...],
    choices: dict[str, Choices],
    budget: Budget,
) -> dict[str, Curves]:
    """{task: the curves of all optimizers, as chosen}, the loss taken after every step."""
    runs = [(t, seed, name) for t in tasks for seed in budget.seeds for name in t.grids]
    jobs = []
    for task, seed, name in runs:
        setting = choices[task.name][name].setting
        jobs.append(Job(task, setting, seed, budget.steps_of(setting), every=1))
    total = len(runs) // len(tasks)
    bar = {t.name: bars.add_task(f"{t.name}: train", total=total) for t in tasks}

    def done(number: int, curve: Curve) -> None:
        task, seed, name = runs[number]
        note = f"{name}, seed {seed}: loss {curve.losses[-1]:.4g}"
        bars.update(bar[task.name], advance=1, note=note)

    found: dict[str, Curves] = {t.name: {name: [] for name in t.grids} for t in tasks}
    for (task, _, name), curve in zip(runs, run_all(jobs, done), strict=True):
        found[task.name][name].append(curve)
    return found
