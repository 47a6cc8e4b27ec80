"""One training run: its loss over all training samples, and the seconds without measuring it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from ekfac_ref.optim import EKFAC, KFAC
from studies.training.data import batch_indices
from studies.training.settings import Setting
from studies.training.tasks import Task

TOO_LARGE = 100.0  # times the loss of the first batch: a run that has diverged


@dataclass(frozen=True)
class Job:
    """A run to be done: ``steps`` steps, the full training loss taken after every ``every``."""

    task: Task
    setting: Setting
    seed: int
    steps: int
    every: int


@dataclass(frozen=True)
class Curve:
    """A run that was done.

    Attributes:
        losses: full training loss before the first step, and after every ``every`` steps; infinite
            from where a run diverged.
        seconds: spent on training up to there; the full training loss is not timed.
        every: steps from one entry to the next.
    """

    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    every: int

    def steps_to(self, target: float) -> float:
        """Steps up to the first loss at or below the target; infinity if there is none."""
        first = self._first(target)
        return math.inf if first is None else float(self.every * first)

    def seconds_to(self, target: float) -> float:
        """Seconds of training up to the first loss at or below the target; infinity if none is."""
        first = self._first(target)
        return math.inf if first is None else self.seconds[first]

    @property
    def seconds_per_step(self) -> float:
        """Mean over the run: steps that recompute an eigenbasis count for what they cost."""
        return self.seconds[-1] / self.last_step

    @property
    def last_step(self) -> int:
        """Number of steps of the run, those after it diverged included."""
        return self.every * (len(self.losses) - 1)

    def _first(self, target: float) -> int | None:
        return next((i for i, loss in enumerate(self.losses) if loss <= target), None)


def run(job: Job, clock: Callable[[], float] = time.perf_counter) -> Curve:
    """Train as the job says; a run that diverges ends at once, its curve filled up with infinity.

    Initialisation and batches are functions of the job's task and seed, not of its setting.
    ``clock`` gives seconds.
    """
    torch.set_num_threads(1)  # the matrices are small: more threads would wait for one another
    task = job.task
    model = initialised(task, job.seed)
    optimizer = job.setting.optimizer(model, task.likelihood, job.seed)
    x, y = task.data()
    losses, seconds, spent = [_full_loss(task, model)], [0.0], 0.0
    first = math.nan
    for step, index in enumerate(islice(batch_indices(job.seed, len(x)), job.steps), start=1):
        start = clock()
        optimizer.zero_grad()
        loss = task.loss(model(x[index]), y[index])
        value = loss.item()
        first = value if step == 1 else first
        if not value <= TOO_LARGE * first:  # NaN too
            return _diverged(job, losses, seconds)
        if isinstance(optimizer, EKFAC | KFAC):
            optimizer.update(x[index], y[index])
        loss.backward()
        optimizer.step()
        spent += clock() - start
        if step % job.every == 0:
            losses.append(_full_loss(task, model))
            seconds.append(spent)
    return Curve(tuple(losses), tuple(seconds), job.every)


def initialised(task: Task, seed: int) -> nn.Module:
    """The task's network as the seed initialises it; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return task.network()


@torch.no_grad()
def _full_loss(task: Task, model: nn.Module) -> float:
    # What is not a number counts as infinite.
    x, y = task.data()
    loss = task.loss(model(x), y).item()
    return loss if math.isfinite(loss) else math.inf


def _diverged(job: Job, losses: list[float], seconds: list[float]) -> Curve:
    missing = job.steps // job.every + 1 - len(losses)
    return Curve((*losses, *[math.inf] * missing), (*seconds, *[seconds[-1]] * missing), job.every)
