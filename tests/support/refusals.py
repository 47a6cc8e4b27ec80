"""What a refusal is: a ProblemError that names the culprit and the way out, and changes nothing.

A file of refusals is a list of bad problems. Each is a function that builds one, under a decorator
with two strings that the message must hold: what is wrong, and what to do. The last line makes the
test of them, one for every bad problem at every entry of the package.

.. code-block:: python

    case = Cases()

    @case("batches: there are none", "pass at least one (inputs, targets)")
    def no_batches():
        return regression(model) | {"batches": []}

    test_data_that_does_not_fit_is_refused = case.at(ENTRIES)
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.conformance.subjects.snapshot import snapshot

Arguments = dict[str, Any]  # of ek.Problem
Builder = Callable[[], Arguments]
Entry = Callable[[ek.Problem], Any]

FACTORED: dict[str, Entry] = {"kfac": ek.kfac, "ekfac": ek.ekfac}  # a layer is g a^T there
ENTRIES: dict[str, Entry] = {
    **FACTORED,
    # of these, any parameter has its own
    "exact_fisher": ek.exact_fisher,
    "full_fisher": ek.full_fisher,
    "per_sample_gradients": lambda problem: list(ek.per_sample_gradients(problem)),
}


class Cases:
    """Bad problems, and the test that all of them are refused; see this file's docstring."""

    def __init__(self) -> None:
        self._params: list[Any] = []

    def __call__(self, culprit: str, advice: str) -> Callable[[Builder], Builder]:
        """Decorator: the message about the problem that this function builds has both strings."""

        def add(build: Builder) -> Builder:
            self._params.append(pytest.param(build, culprit, advice, id=build.__name__))
            return build

        return add

    def at(self, entries: dict[str, Entry]) -> Callable[..., None]:
        """A test: every case at every one of these entries."""

        @pytest.mark.parametrize("entry", entries.values(), ids=entries)
        @pytest.mark.parametrize(("build", "culprit", "advice"), self._params)
        def test(entry: Entry, build: Builder, culprit: str, advice: str) -> None:
            assert_refused(entry, build(), culprit, advice)

        return test


def assert_refused(entry: Entry, arguments: Arguments, culprit: str, advice: str) -> None:
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
