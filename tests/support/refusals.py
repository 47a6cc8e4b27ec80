"""What a refusal is: a ProblemError that names the culprit and the way out, and changes nothing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot

Arguments = dict[str, Any]

ENTRIES: dict[str, Callable[[ek.Problem], Any]] = {
    "exact_fisher": ek.exact_fisher,
    "kfac": ek.kfac,
    "ekfac": ek.ekfac,
    "full_fisher": ek.full_fisher,
    "per_sample_gradients": lambda problem: list(ek.per_sample_gradients(problem)),
}


class Cases:
    """A file's bad problems: functions that build one, with what its message has to say."""

    def __init__(self) -> None:
        self._params: list[Any] = []

    def __call__(self, culprit: str, advice: str) -> Callable[[Any], Any]:
        """Decorator: entering the problem that this function builds must raise both strings."""

        def add(build: Callable[[], Arguments]) -> Callable[[], Arguments]:
            self._params.append(pytest.param(build, culprit, advice, id=build.__name__))
            return build

        return add

    @property
    def everywhere(self) -> pytest.MarkDecorator:
        """Every case at every entry."""
        return pytest.mark.parametrize(("build", "culprit", "advice"), self._params)


def assert_refused(
    entry: Callable[[ek.Problem], Any], arguments: Arguments, culprit: str, advice: str
) -> None:
    """The entry raises a ProblemError with both strings, and the caller's things stay put."""
    before = snapshot(arguments["model"], arguments["batches"])
    with pytest.raises(ek.ProblemError) as caught:
        entry(ek.Problem(**arguments))
    assert culprit in str(caught.value)
    assert advice in str(caught.value)
    assert snapshot(arguments["model"], arguments["batches"]) == before


def regression(model: nn.Module, inputs: Any = None, targets: Tensor | None = None) -> Arguments:
    """A Gaussian problem on five samples in uneven batches; by default inputs of 3 features and
    targets of 2.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(5, 3, generator=generator) if inputs is None else inputs
    targets = torch.randn(5, 2, generator=generator) if targets is None else targets
    batches = [(inputs[:3], targets[:3]), (inputs[3:], targets[3:])]
    return {"model": model.eval(), "batches": batches, "likelihood": ek.Gaussian()}
