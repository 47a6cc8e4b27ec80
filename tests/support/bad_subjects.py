"""Subjects with bad manners. Most behave at every other question, so that a run has to go on."""

import itertools
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.subject import Subject

Ask = Callable[[ek.Problem], Mapping[str, Any]]


def every_other(bad: Ask) -> Subject:
    """The reference's answer first, then a bad one, and so on."""
    turns = itertools.cycle((ek.ekfac, bad))
    return Subject(bad.__name__, lambda problem: next(turns)(problem))


@dataclass(frozen=True)
class Product:
    """An operator with nothing but its product."""

    matvec: Callable[[Tensor], Any]


def with_products(product: Callable[[Any, Tensor], Any]) -> Ask:
    """The reference's answer by other products."""

    def ask(problem: ek.Problem) -> Mapping[str, Any]:
        operators = ek.ekfac(problem).items()
        return {name: Product(lambda V, one=one: product(one, V)) for name, one in operators}

    return ask


@every_other
def raises(problem: ek.Problem) -> Mapping[str, Any]:
    raise ZeroDivisionError("this layer\nis unknown")


@every_other
def exits(problem: ek.Problem) -> Mapping[str, Any]:
    raise SystemExit(0)


@every_other
def wrong_shape(problem: ek.Problem) -> Mapping[str, Any]:
    return with_products(lambda one, V: one.matvec(V).reshape(-1))(problem)


@every_other
def wrong_names(problem: ek.Problem) -> Mapping[str, Any]:
    return {f"module.{name}": operator for name, operator in ek.ekfac(problem).items()}


@every_other
def no_dict(problem: ek.Problem) -> Any:
    return list(ek.ekfac(problem).values())


@every_other
def not_a_number(problem: ek.Problem) -> Mapping[str, Any]:
    return with_products(lambda one, V: one.matvec(V) * torch.nan)(problem)


@every_other
def not_a_tensor(problem: ek.Problem) -> Mapping[str, Any]:
    return with_products(lambda one, V: one.matvec(V).tolist())(problem)


@every_other
def hangs(problem: ek.Problem) -> Mapping[str, Any]:
    while True:
        try:
            time.sleep(60)
        except Exception:  # it takes no hint
            continue


@every_other
def blocks(problem: ek.Problem) -> Mapping[str, Any]:
    print("no alarm gets through")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    while True:
        time.sleep(3600)


@every_other
def interrupted(problem: ek.Problem) -> Mapping[str, Any]:
    raise KeyboardInterrupt


MARKUP = "[bold]</pre><script>alert(1)</script>[/nothing] \x1b[2J {{ 7 * 7 }}"


@every_other
def markup(problem: ek.Problem) -> Mapping[str, Any]:
    print(MARKUP)
    raise ValueError(MARKUP)


def prints(problem: ek.Problem) -> Mapping[str, Any]:
    print("so many layers:", len(list(problem.model.modules())))
    return ek.ekfac(problem)


def changes(problem: ek.Problem) -> Mapping[str, Any]:
    answer = ek.ekfac(problem)
    model = problem.model
    with torch.no_grad():
        next(model.parameters()).add_(1)
    model.train()
    model.register_forward_hook(lambda *_: None)
    problem.batches.append(problem.batches[0])
    torch.rand(1)
    return answer


def changes_and_raises(problem: ek.Problem) -> Mapping[str, Any]:
    changes(problem)
    raise ValueError("too late")


def coupled(problem: ek.Problem) -> Mapping[str, Any]:
    def product(one: Any, V: Tensor) -> Tensor:
        grouped = isinstance(one, ek.BlockDiagonal)
        return V.sum().expand(V.shape) if grouped else one.matvec(V)

    return with_products(product)(problem)


def wrong(problem: ek.Problem) -> Mapping[str, Any]:
    return with_products(lambda one, V: 2 * one.matvec(V))(problem)


nothing = 7
