r"""A forward pass in which every use of every layer is seen, and can be differentiated. No hooks.

A ``recorder.Recorder`` sees the calls whose weight *is* a layer's Parameter, keeps their inputs a
and adds a zero to their outputs; the gradient with respect to that zero is g.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ekfac_ref.model.batched.sample_axis import Alone, SampleAxes, SampleAxis
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.model.forward import call, check_one_output
from ekfac_ref.model.recording.recorder import Recorder, Use, axes_of_uses, check_not_transformed
from ekfac_ref.model.refusals.causes import explained

_ALONE = "its forward fails on one sample of several by itself; make that work first"


class Misfit(Exception):
    """Axes of a use are not what the layout says."""


@dataclass(frozen=True)
class ForwardPass:
    """A forward pass of N samples, with a zero added to the output of every use.

    Attributes:
        samples: N.
        f: the outputs, with a graph from the zeros.
        uses: {layer: its uses}.
        zeros: {layer: the zero of each use}, shaped like its output, channels last, where every
            sample has positions of its own.
        layout: {layer: how each use was read}.
        roundoff: of the coarsest dtype that the forward rounds to.
    """

    samples: int
    f: Tensor
    uses: dict[str, list[Use]]
    zeros: dict[str, list[Tensor]]
    layout: SampleAxes
    roundoff: float

    @property
    def leaves(self) -> list[Tensor]:
        """The zeros of all layers, in their order."""
        return [zero for zeros in self.zeros.values() for zero in zeros]

    @property
    def axes(self) -> dict[str, list[torch.Size]]:
        """{layer: the axes of each of its uses}."""
        return axes_of_uses(self.uses)

    def forget(self, name: str) -> None:
        """Let go of the inputs of a layer, which nobody reads again."""
        del self.uses[name]

    def inputs(
        self, name: str, k: int, samples: SampleAxis | None = None
    ) -> Shaped[Tensor, "N T groups d_in"]:
        """a of use k of a layer; read in another way, if one is given."""
        use, axes = self.uses[name][k], self.zeros[name][k].shape[:-1]
        rows = use.inputs.rows()
        a = rows.reshape(*use.axes, *rows.shape[1:]).expand(*axes, *rows.shape[1:])
        return (samples or self.layout[name][k]).apart(a, len(axes), self.samples)

    def gradients(
        self, name: str, k: int, g: Tensor, samples: SampleAxis | None = None
    ) -> Float[Tensor, "N C T d_out"]:
        """g [C, *zero] of use k of a layer, likewise."""
        by_position = (samples or self.layout[name][k]).apart(
            g.movedim(0, -2), g.dim() - 2, self.samples
        )
        return by_position.movedim(-2, 1)


Read = Callable[[str, int, torch.Size], SampleAxis]  # of use k of a layer, by its axes


def run(replica: Replica, inputs: Any, N: int, read: Read) -> ForwardPass:
    """The model on N samples, where ``read`` says how every use is read, or raises Misfit.

    Its inputs are there until the next forward pass, which may write where they are.
    """
    with explained():
        seen, recorder = _run(replica, inputs, N, read, at_once=False)
        if recorder.overwritten:
            seen, recorder = _run(replica, inputs, N, read, at_once=True)
    check_not_transformed(recorder.uses)
    return seen


def run_alone(replica: Replica, inputs: Any) -> ForwardPass:
    """The model on one sample: everything is its own, and stays."""
    with explained(_ALONE):
        seen, recorder = _run(replica, inputs, 1, lambda name, k, axes: Alone(), at_once=True)
    check_one_output(seen.f)
    check_not_transformed(recorder.uses)
    return seen


def run_by(replica: Replica, inputs: Any, N: int, layout: SampleAxes) -> ForwardPass:
    """The model on N samples, read by a layout; Misfit, if it has other uses or other axes."""

    def read(name: str, k: int, axes: torch.Size) -> SampleAxis:
        if k >= len(layout[name]) or not layout[name][k].fits(axes, N):
            raise Misfit
        return layout[name][k]

    seen = run(replica, inputs, N, read)
    if seen.layout != layout:  # fewer
        raise Misfit
    return seen


def _run(
    replica: Replica, inputs: Any, N: int, read: Read, at_once: bool
) -> tuple[ForwardPass, Recorder]:
    names = [layer.name for layer in replica.layers]
    zeros: dict[str, list[Tensor]] = {name: [] for name in names}
    layout: SampleAxes = {name: [] for name in names}

    def shifted(name: str, k: int, y: Tensor) -> Tensor:
        samples = read(name, k, y.shape[:-1])
        shape = (*samples.of_all(y.shape[:-1], N), y.shape[-1])
        zeros[name].append(y.new_zeros(()).expand(shape).requires_grad_())
        layout[name].append(samples)
        return y + zeros[name][-1]

    recorder = Recorder(replica.layers, shifted, at_once)
    with torch.enable_grad(), recorder:
        f = call(replica.copy, inputs)
    return ForwardPass(N, f, recorder.uses, zeros, layout, recorder.roundoff), recorder
