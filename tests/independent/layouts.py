"""A Parameter's own layout written out as the matrix [W | b], one function for each kind of layer.

Rows are outputs, group by group; columns are the inputs of one group. The bias is appended by the
caller, since it is the last column for every kind.
"""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn


def linear_matrix(module: nn.Linear, weight: Tensor) -> Tensor:
    """[out, in] is the matrix already."""
    return weight.clone()


def bilinear_matrix(module: nn.Bilinear, weight: Tensor) -> Tensor:
    """Column i, j of the matrix is entry [:, i, j], j running fastest."""
    in1, in2 = module.in1_features, module.in2_features
    columns = [weight[:, i, j] for i, j in product(range(in1), range(in2))]
    return torch.stack(columns, 1)


def embedding_matrix(module: nn.Embedding, weight: Tensor) -> Tensor:
    """Column v of the matrix is the vector of word v."""
    return torch.stack([weight[v] for v in range(module.num_embeddings)], 1)


def convolution_matrix(module: nn.Module, weight: Tensor) -> Tensor:
    """weight [C_out, C_in / groups, *k]: the rows are in group order as they stand."""
    kernel = [range(k) for k in module.kernel_size]
    columns = [
        weight[(slice(None), c, *offset)]
        for c in range(module.in_channels // module.groups)
        for offset in product(*kernel)
    ]
    return torch.stack(columns, 1)


def transposed_convolution_matrix(module: nn.Module, weight: Tensor) -> Tensor:
    """weight [C_in, C_out / groups, *k]: an output of group g reads the inputs of group g only."""
    kernel = [range(k) for k in module.kernel_size]
    inputs = module.in_channels // module.groups
    rows = [
        torch.stack(
            [
                weight[(g * inputs + c, o, *offset)]
                for c in range(inputs)
                for offset in product(*kernel)
            ]
        )
        for g in range(module.groups)
        for o in range(module.out_channels // module.groups)
    ]
    return torch.stack(rows)


MATRIX_OF: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: linear_matrix,
    nn.Bilinear: bilinear_matrix,
    nn.Embedding: embedding_matrix,
    nn.Conv1d: convolution_matrix,
    nn.Conv2d: convolution_matrix,
    nn.Conv3d: convolution_matrix,
    nn.ConvTranspose1d: transposed_convolution_matrix,
    nn.ConvTranspose2d: transposed_convolution_matrix,
    nn.ConvTranspose3d: transposed_convolution_matrix,
}


def groups_of(module: nn.Module) -> int:
    """How many layers of their own a grouped convolution is."""
    return getattr(module, "groups", 1)


def trainable_bias(module: nn.Module) -> Tensor | None:
    """The bias, where there is one to differentiate by; a frozen one is a constant."""
    bias = getattr(module, "bias", None)
    return bias if bias is not None and bias.requires_grad else None


def layers_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Each trainable weight by the name of the first module that owns it, with all its owners."""
    names: dict[Tensor, str] = {}
    owners: dict[str, list[nn.Module]] = {}
    for name, module in model.named_modules():
        if type(module) in MATRIX_OF and module.weight.requires_grad:
            first = names.setdefault(module.weight, name)
            owners.setdefault(first, []).append(module)
    return owners


def bias_of(owners: list[nn.Module]) -> Tensor | None:
    """The one bias of a layer, tied where the weight is tied, or absent in some of its uses."""
    biases = [b for b in map(trainable_bias, owners) if b is not None]
    assert all(b is biases[0] for b in biases), "a tied weight with untied biases is no one layer"
    return biases[0] if biases else None
