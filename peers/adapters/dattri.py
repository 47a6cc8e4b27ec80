"""dattri: the inverse of an EKFAC of Linear layers, as ``IFAttributorEKFAC`` applies it.

Documented: a loss that is the mean over the batch, and its gradients at the labels of the data, an
empirical Fisher; Linear layers by name; the bias is the last input; damping is added to the
eigenvalues; vectors are flat, parameter after parameter.
"""

import copy
from typing import Any

import torch
from dattri.algorithm.influence_function import IFAttributorEKFAC
from dattri.task import AttributionTask
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

import ekfac_ref as ek
from ekfac_ref import conformance as ct
from ekfac_ref.conformance.adapter import unit_loss


def _solved(problem: ek.Problem, V: dict[str, Tensor], damping: float) -> dict[str, Tensor]:
    if problem.mask is not None or problem.sharing != ek.Expand():
        raise NotImplementedError("the mean over samples, every position a row")
    x, y = zip(*problem.batches, strict=True)
    if any(not isinstance(one, Tensor) for one in x):
        raise NotImplementedError("inputs of this adapter are one tensor")
    model, loss = copy.deepcopy(problem.model), unit_loss(problem.likelihood)

    def mean(parameters: Any, data: tuple[Tensor, Tensor]) -> Tensor:
        outputs = functional_call(model, parameters, (data[0],))
        return loss(outputs, data[1])

    layers = ek.find_layers(model, problem.layers)
    modules = dict(model.named_modules())
    for layer in layers:
        if any(not p.requires_grad for p in modules[layer.name].parameters(recurse=False)):
            raise NotImplementedError("a layer is taken with all of its parameters")
    task = AttributionTask(loss_func=mean, model=model, checkpoints=model.state_dict())
    attributor = IFAttributorEKFAC(task, [layer.name for layer in layers], damping=damping)
    data, own = TensorDataset(torch.cat(x), torch.cat(y)), torch.Generator()
    attributor.cache(DataLoader(data, len(x[0]), generator=own))  # or it draws from the global one
    flat = torch.cat(
        [part.flatten() for layer in layers for part in layer.from_matrix(V[layer.name]).values()]
    )
    answer = attributor.transform_test_rep(0, flat[None])[0]
    found: dict[str, Tensor] = {}
    for layer in layers:
        parts = [p for p in (layer.weight, layer.bias) if p is not None]
        for name, p in zip(layer.parameters, parts, strict=True):
            found[name], answer = answer[: p.numel()].view_as(p), answer[p.numel() :]
    return {layer.name: layer.to_matrix(found) for layer in layers}


steps = ct.Subject(
    "dattri",
    precondition=_solved,
    abilities=ct.Abilities(
        layers=(nn.Linear,),
        fishers=(ek.Empirical,),
        sharings=(ek.Expand,),
        shared_weights=False,
        masks=False,
    ),
)
