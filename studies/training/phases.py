"""The three phases, each with its bars: tuning, all seeds, the ageing of the basis."""

from dataclasses import dataclass

from rich.progress import Progress

from studies.training import ageing
from studies.training.compare import Curves
from studies.training.pool import RunAll
from studies.training.run import Curve, Job
from studies.training.settings import Ekfac, Kfac, Setting
from studies.training.tasks import Task
from studies.training.tuning import Choice, choose

Choices = dict[str, Choice]  # {optimizer's name: its best setting}


@dataclass(frozen=True)
class Budget:
    """The same for every optimizer.

    Attributes:
        tuning: steps of each setting of a grid, with ``tuning_seed``.
        steps: of SGD and Adam afterwards, with each of ``seeds``; SGD's last loss is the target.
        curvature_steps: of KFAC and EKFAC: half of SGD's, the most that EKFAC should need.
        ageing: steps over which the running blocks are compared with the exact block.
    """

    tuning: int = 300
    tuning_seed: int = 0
    steps: int = 1000
    curvature_steps: int = 500
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    ageing: int = 300

    def steps_of(self, setting: Setting) -> int:
        """Of one run after tuning."""
        return self.curvature_steps if isinstance(setting, Kfac | Ekfac) else self.steps


def tune(
    progress: Progress, run_all: RunAll, tasks: tuple[Task, ...], budget: Budget
) -> dict[str, Choices]:
    """{task: its choices}, every setting with the same steps and seed."""
    asked = [(t, name, setting) for t in tasks for name in t.grids for setting in t.grids[name]]
    jobs = [Job(t, s, budget.tuning_seed, budget.tuning, budget.tuning) for t, _, s in asked]
    bars = {
        (t.name, name): progress.add_task(f"{t.name}: tune {name}", total=len(grid), note="")
        for t in tasks
        for name, grid in t.grids.items()
    }
    lowest: dict[tuple[str, str], float] = {}

    def done(number: int, curve: Curve) -> None:
        task, name, _ = asked[number]
        loss = curve.losses[-1]
        lowest[task.name, name] = min(lowest.get((task.name, name), loss), loss)
        note = f"lowest loss {lowest[task.name, name]:.4g}"
        progress.update(bars[task.name, name], advance=1, note=note)

    curves = iter(run_all(jobs, done))
    return {
        t.name: {name: choose(grid, [next(curves) for _ in grid]) for name, grid in t.grids.items()}
        for t in tasks
    }


def train(
    progress: Progress,
    run_all: RunAll,
    tasks: tuple[Task, ...],
    choices: dict[str, Choices],
    budget: Budget,
) -> dict[str, Curves]:
    """{task: the curves of all optimizers, as chosen}, the loss taken after every step."""
    asked = [(t, seed, name) for t in tasks for seed in budget.seeds for name in t.grids]
    jobs = []
    for task, seed, name in asked:
        setting = choices[task.name][name].setting
        jobs.append(Job(task, setting, seed, budget.steps_of(setting), every=1))
    runs = len(asked) // len(tasks)
    bars = {t.name: progress.add_task(f"{t.name}: train", total=runs, note="") for t in tasks}

    def done(number: int, curve: Curve) -> None:
        task, seed, name = asked[number]
        note = f"{name}, seed {seed}: loss {curve.losses[-1]:.4g}"
        progress.update(bars[task.name], advance=1, note=note)

    found: dict[str, Curves] = {t.name: {name: [] for name in t.grids} for t in tasks}
    for (task, _, name), curve in zip(asked, run_all(jobs, done), strict=True):
        found[task.name][name].append(curve)
    return found


def age(progress: Progress, task: Task, choices: Choices, budget: Budget) -> list[ageing.Errors]:
    """Errors against the exact block, along a run of the tuned EKFAC."""
    setting = choices["EKFAC"].setting
    assert isinstance(setting, Ekfac)
    bar = progress.add_task(f"{task.name}: basis", total=budget.ageing, note="")

    def tick() -> None:
        progress.update(bar, advance=1)

    return ageing.errors(task, setting, budget.seeds[0], budget.ageing, tick)
