"""The comparison is fair, counts right, and says what it hides: on tiny budgets."""

import json
import math
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from threading import Event

import pytest
import torch
from rich.console import Console
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC, KFAC
from studies.digits import TRAIN
from studies.training import data, pool, show, table
from studies.training.outcomes import outcomes, ratio, spread, targets
from studies.training.phases import Budget
from studies.training.run import Curve, Job, initialised, run
from studies.training.settings import Adam, Ekfac, Kfac, Momentum
from studies.training.tasks import AUTOENCODER, CLASSIFIER, TASKS, Task, log_grid
from studies.training.tuning import Choice, choose, values

STILL = (Momentum(0.0), Adam(0.0), Kfac(0.0, 1.0), Ekfac(0.0, 1.0))


def curve(*losses: float, every: int = 1, seconds: float = 1.0) -> Curve:
    return Curve(tuple(map(float, losses)), tuple(seconds * i for i in range(len(losses))), every)


def recorded(task: Task, seen: list[tuple[float, Tensor]]) -> Task:
    """The task; every loss that is taken of it is noted down with its targets."""

    def loss(f: Tensor, y: Tensor) -> Tensor:
        value = task.loss(f, y)
        seen.append((value.item(), y))
        return value

    return replace(task, loss=loss)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_all_start_alike_and_see_the_same_batches(task: Task) -> None:
    """Networks that stand still: the losses are the same numbers, hence weights and batches."""
    logs = []
    for setting in STILL:
        seen: list[tuple[float, Tensor]] = []
        torch.rand(1)  # a global random state that has moved on
        run(Job(recorded(task, seen), setting, seed=3, steps=16, every=16))
        logs.append(seen)
    for other in logs[1:]:
        assert [loss for loss, _ in other] == [loss for loss, _ in logs[0]]
        assert all(torch.equal(y, z) for (_, y), (_, z) in zip(other, logs[0], strict=True))


def test_another_seed_is_another_start_and_other_batches() -> None:
    one, two = (next(initialised(AUTOENCODER, seed).parameters()) for seed in (1, 2))
    assert not torch.equal(one, two)
    assert not torch.equal(next(data.batch_indices(1, 1400)), next(data.batch_indices(2, 1400)))


def test_every_epoch_deals_out_every_sample_once_in_an_order_of_its_own() -> None:
    batches = list(islice(data.batch_indices(0, TRAIN), 28))
    one, two = torch.cat(batches[:14]), torch.cat(batches[14:])
    assert {len(batch) for batch in batches} == {data.BATCH}
    assert torch.equal(one.sort().values, torch.arange(TRAIN))
    assert torch.equal(two.sort().values, torch.arange(TRAIN))
    assert not torch.equal(one, two)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_the_loss_is_the_mean_of_the_unit_likelihood(task: Task) -> None:
    """Its gradient is the likelihood's score over N: what damping and the KL clip count on."""
    x, y = task.data()
    f = task.network()(x[:7]).detach().requires_grad_()
    task.loss(f, y[:7]).backward()
    torch.testing.assert_close(f.grad, task.likelihood.score(f.detach(), y[:7]) / 7)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_budgets_are_equal(task: Task) -> None:
    """Six learning rates for all, six dampings for both that have one, every pair once."""
    points = {name: [values(s) for s in grid] for name, grid in task.grids.items()}
    assert list(points) == ["SGD", "Adam", "KFAC", "EKFAC"]
    for name, mine in points.items():
        rates = sorted({p["lr"] for p in mine})
        dampings = sorted({p["damping"] for p in mine if "damping" in p})
        assert len(rates) == 6
        assert len(dampings) == (6 if name in ("KFAC", "EKFAC") else 0)
        assert len(mine) == 6 * max(1, len(dampings)) == len({tuple(p.values()) for p in mine})
        for axis in filter(None, (rates, dampings)):
            steps = [b / a for a, b in pairwise(axis)]
            assert max(steps) / min(steps) < 1.15, "not a log grid, to two digits"


def test_a_log_grid_has_round_numbers() -> None:
    assert log_grid(0.01, 10**0.5) == (0.01, 0.032, 0.1, 0.32, 1.0, 3.2)


def test_the_last_loss_decides_and_diverged_runs_are_counted() -> None:
    grid = tuple(Momentum(lr) for lr in (0.1, 0.2, 0.3, 0.4))
    runs = [curve(9, 2), curve(9, 1.5), curve(1, 3), curve(9, math.inf)]
    assert choose(grid, runs) == Choice(Momentum(0.2), 1.5, tried=4, diverged=1, ends=())


@pytest.mark.parametrize(
    ("best", "ends"),
    [
        (Ekfac(0.2, 2.0), ()),
        (Ekfac(0.1, 2.0), ("lr",)),
        (Ekfac(0.2, 3.0), ("damping",)),
        (Ekfac(0.3, 1.0), ("lr", "damping")),
    ],
)
def test_a_choice_at_an_end_of_its_grid_is_named(best: Ekfac, ends: tuple[str, ...]) -> None:
    grid = tuple(Ekfac(lr, damping) for lr in (0.1, 0.2, 0.3) for damping in (1.0, 2.0, 3.0))
    choice = choose(grid, [curve(9, 1 if setting == best else 2) for setting in grid])
    assert (choice.setting, choice.ends) == (best, ends)
    printed = text(table.choice_table({"EKFAC": choice}, 300))
    assert printed.splitlines()[-1].endswith(", ".join(ends) if ends else "no")


def test_steps_to_a_target_are_counted_to_the_first_loss_that_is_no_higher() -> None:
    falling = curve(5, 4, 3, 2, 3, 1, every=10, seconds=0.5)
    assert [falling.steps_to(t) for t in (5.0, 4.5, 2.0, 1.5)] == [0, 10, 30, 50]
    assert [falling.seconds_to(t) for t in (5.0, 4.5, 2.0, 1.5)] == [0, 0.5, 1.5, 2.5]
    assert falling.steps_to(0.9) == falling.seconds_to(0.9) == math.inf
    assert falling.seconds_per_step == pytest.approx(2.5 / 50)


def test_each_seed_has_a_target_of_its_own_and_one_that_never_gets_there_is_infinite() -> None:
    sgd = [curve(9, 8, 7), curve(9, 5, 6), curve(9, 4, 2)]
    ekfac = [curve(9, 7, 1), curve(9, 6.5, 6), curve(9, 5, 3)]
    found = outcomes({"SGD": sgd, "KFAC": sgd, "EKFAC": ekfac})
    assert targets({"SGD": sgd}) == [7, 6, 2]
    assert found["SGD"].steps == spread([2.0, 1.0, 2.0])
    assert found["EKFAC"].steps == spread([1.0, 2.0, math.inf])
    assert (found["EKFAC"].steps.median, found["EKFAC"].steps.high) == (2, math.inf)
    assert ratio(found["EKFAC"].steps, found["SGD"].steps) == 1
    assert "1 - never" in text(table.step_table(found))
    assert "1 - 2" in text(table.step_table(found))


def test_what_nobody_reached_was_not_reached_and_has_no_ratio() -> None:
    """SGD that ends worse than it began is at its target before the first step."""
    sgd, never = [curve(1, 2)], [curve(3, 3)]
    found = outcomes({"SGD": sgd, "Adam": sgd, "KFAC": never, "EKFAC": never})
    assert math.isnan(ratio(found["EKFAC"].steps, found["SGD"].steps))
    assert math.isnan(ratio(found["EKFAC"].steps, found["KFAC"].steps))
    printed = text(table.step_table(found))
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    assert rows["EKFAC"][:6] == ["never", "never", "-", "never", "-", "-"]
    assert rows["SGD"][:6] == ["0", "0", "-", "0", "-", "-"]
    assert "nan" not in printed


def test_seconds_leave_out_the_full_training_loss() -> None:
    """On a clock that only the losses move: 1 for that of a batch, 1000 for the full one."""
    now = 0.0

    def loss(f: Tensor, y: Tensor) -> Tensor:
        nonlocal now
        now += 1 if len(f) == data.BATCH else 1000
        return CLASSIFIER.loss(f, y)

    job = Job(replace(CLASSIFIER, loss=loss), Momentum(0.01), seed=0, steps=6, every=2)
    assert run(job, clock=lambda: now).seconds == (0, 2, 4, 6)


def test_losses_are_taken_before_training_and_after_the_steps_that_they_stand_for() -> None:
    """Coarser curves are entries of the finest one, step by step; the first is the start."""
    fine, coarse = (
        run(Job(CLASSIFIER, Momentum(0.1), 0, steps=6, every=every)) for every in (1, 3)
    )
    assert coarse.losses == fine.losses[::3]
    assert len(set(fine.losses)) == 7
    model = initialised(CLASSIFIER, 0)
    x, y = CLASSIFIER.data()
    assert fine.losses[0] == CLASSIFIER.loss(model(x), y).item()


def test_a_run_that_diverges_ends_with_infinite_loss_and_a_full_curve() -> None:
    wild = run(Job(AUTOENCODER, Momentum(1e6), 0, steps=10, every=2))
    assert wild.losses[-1] == math.inf
    assert math.isfinite(wild.losses[0])
    assert len(wild.losses) == len(wild.seconds) == 6


@pytest.mark.parametrize(("setting", "kind"), [(Kfac, KFAC), (Ekfac, EKFAC)], ids=["KFAC", "EKFAC"])
def test_a_run_is_the_loop_that_one_would_write(
    setting: type[Kfac | Ekfac], kind: type[KFAC | EKFAC]
) -> None:
    """With the settings that are printed: curvature at every step, past the second basis."""
    model, (x, y) = initialised(AUTOENCODER, 2), AUTOENCODER.data()
    optimizer = kind(
        model,
        ek.Bernoulli(),
        fisher=ek.Sampled(draws=1, seed=2),
        decay=0.95,
        recompute_every=10,
        lr=0.02,
        momentum=0.9,
        damping=0.1,
        kl_clip=0.003,
    )
    for index in islice(data.batch_indices(2, len(x)), 12):
        optimizer.zero_grad()
        optimizer.update(x[index], y[index])
        AUTOENCODER.loss(model(x[index]), y[index]).backward()
        optimizer.step()
    losses = run(Job(AUTOENCODER, setting(0.02, 0.1), seed=2, steps=12, every=12)).losses
    assert losses[1] == pytest.approx(AUTOENCODER.loss(model(x), y).item(), rel=1e-6)
    assert losses[1] < 0.8 * losses[0]


TINY = Budget(tuning=3, steps=4, curvature_steps=2, seeds=(1, 2))


def test_everything_is_written(tmp_path: Path) -> None:
    jobs_run: list[Job] = []

    def run_all(jobs: Sequence[Job], done: Callable[[int, Curve], None]) -> list[Curve]:
        jobs_run.extend(jobs)
        curves = []
        for number, job in enumerate(jobs):
            curves.append(run(job))
            done(number, curves[-1])
        return curves

    few = tuple(replace(t, grids={n: g[:2] for n, g in t.grids.items()}) for t in TASKS)
    show.compare(tmp_path, few, TINY, run_all)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    tables = (tmp_path / "tables.txt").read_text()
    assert "lr, damping\n" in tables  # of two values, both are ends
    written = json.loads((tmp_path / "results.json").read_text())
    for task in few:
        mine = [job for job in jobs_run if job.task is task]
        assert len(mine) == 8 + 8
        assert {(job.seed, job.steps) for job in mine[:8]} == {(0, 3)}
        assert {(job.seed, job.every) for job in mine[8:]} == {(1, 1), (2, 1)}
        for name, steps in {"SGD": 4, "Adam": 4, "KFAC": 2, "EKFAC": 2}.items():
            curves = written["curves"][task.name][name]
            assert [len(c["losses"]) for c in curves] == [steps + 1, steps + 1]
            chosen = written["chosen"][task.name][name]["setting"]
            setting = type(task.grids[name][0])(**chosen)
            assert curves[1]["losses"] == pytest.approx(run(Job(task, setting, 2, steps, 1)).losses)


FILES = ["losses.png", "results.json", "tables.txt"]


def test_curves_come_in_the_order_of_the_jobs_whatever_ends_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads for processes, and a first job that waits for the second to end."""
    second_is_done = Event()

    def waiting(job: Job) -> Curve:
        if job.steps == 1:
            assert second_is_done.wait(timeout=60)
        return curve(job.steps)

    def done(number: int, _: Curve) -> None:
        order.append(number)
        second_is_done.set()

    order: list[int] = []
    monkeypatch.setattr(pool, "run", waiting)
    monkeypatch.setattr(pool, "ProcessPoolExecutor", lambda _, mp_context: ThreadPoolExecutor(2))
    jobs = [Job(CLASSIFIER, Momentum(0.1), 0, steps, 1) for steps in (1, 2)]
    with pool.all_cores() as run_all:
        curves = run_all(jobs, done)
    assert order == [1, 0]
    assert [c.losses for c in curves] == [(1,), (2,)]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_jobs_and_curves_can_go_to_another_process_and_back(task: Task) -> None:
    for setting in STILL:
        there = pickle.loads(pickle.dumps(Job(task, setting, 0, steps=1, every=1)))
        back = pickle.loads(pickle.dumps(run(there)))
        assert back.losses == run(Job(task, setting, 0, steps=1, every=1)).losses


def text(printable: object) -> str:
    console = Console(width=200, highlight=False)
    with console.capture() as captured:
        console.print(printable)
    return captured.get()
