"""What goes into a layer and what comes back to its output, position by position, by plain hooks.

a_nt is the layer's input at position t and g_nct the gradient of <f_n, s_nc> with respect to its
output there, so that G_nc = sum_t g_nct a_nt^T. No factor of N.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.independent.columns import Columns, Loss
from tests.independent.layouts import bias_of, groups_of, layers_of, trainable_bias
from tests.independent.patches import layer_inputs, output_rows
from tests.independent.plain_loop import gradient, samples


@dataclass(frozen=True)
class Positions:
    """What one sample sends through one layer; T runs over all calls of all modules of the layer.

    Attributes:
        a: [T, groups, d_in], with the bias's 1 last (0 in a use that has no bias).
        g: [C, T, groups, d_out / groups].
    """

    a: Tensor
    g: Tensor


def per_sample_positions(
    model: nn.Module, inputs: Any, targets: Tensor, loss: Loss, columns: Columns
) -> dict[str, list[Positions]]:
    """{layer: the a and g of each sample}, for layers that are called as modules."""
    found: dict[str, list[Positions]] = {name: [] for name in layers_of(model)}
    for run, y in samples(inputs, targets):
        f, calls = _recorded(model, run)
        S = columns(loss, f, y)
        for name, owners in layers_of(model).items():
            found[name].append(_positions(f, S, owners, calls))
    return found


@dataclass(frozen=True)
class _Call:
    module: nn.Module
    inputs: tuple[Tensor, ...]
    output: Tensor


def _recorded(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> tuple[Tensor, list[_Call]]:
    """The output, and the calls of all layers in order."""
    calls: list[_Call] = []

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        calls.append(_Call(module, tuple(x.detach().clone() for x in inputs), output))
        return output.clone()  # what follows may overwrite the clone, not the output

    modules = {module for owners in layers_of(model).values() for module in owners}
    handles = [module.register_forward_hook(record) for module in modules]
    try:
        return run(model), calls
    finally:
        for handle in handles:
            handle.remove()


def _positions(f: Tensor, S: Tensor, owners: list[nn.Module], calls: list[_Call]) -> Positions:
    groups, has_bias = groups_of(owners[0]), bias_of(owners) is not None
    ours = [call for call in calls if any(call.module is owner for owner in owners)]
    a = [layer_inputs(call.module, *call.inputs) for call in ours]
    if has_bias:
        a = [
            torch.cat(
                [a_t, torch.full_like(a_t[..., :1], trainable_bias(call.module) is not None)], -1
            )
            for a_t, call in zip(a, ours, strict=True)
        ]
    g = [
        torch.cat(
            [
                output_rows(call.module, d).unflatten(-1, (groups, -1))
                for call, d in zip(ours, gradient(f, s, [c.output for c in ours]), strict=True)
            ]
        )
        for s in S
    ]
    return Positions(torch.cat(a), torch.stack(g))
