"""What a layer's weight multiplies at each output position, found by walking over the indices.

Every function takes the input of one sample, with its sample axis of length 1, and returns
a [T, groups, d] without the bias's 1. Output positions and kernel offsets run in row order, the
last axis fastest; the d inputs of a group run over its channels, then over the kernel.
"""

from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor, nn

Index = tuple[int, ...]
# (output position, kernel offset) -> the input position that is read there, None where it is zero
Reads = Callable[[Index, Index], Index | None]


def linear_inputs(module: nn.Linear, x: Tensor) -> Tensor:
    """One row of x for each leading index."""
    leading = [range(size) for size in x.shape[:-1]]
    return torch.stack([x[position][None] for position in product(*leading)])


def bilinear_inputs(module: nn.Bilinear, x1: Tensor, x2: Tensor) -> Tensor:
    """All products x1_i x2_j, j running fastest."""
    leading = [range(size) for size in x1.shape[:-1]]
    rows = [
        torch.stack([x1_i * x2_j for x1_i in x1[position] for x2_j in x2[position]])
        for position in product(*leading)
    ]
    return torch.stack(rows)[:, None]


def embedding_inputs(module: nn.Embedding, words: Tensor) -> Tensor:
    """e_v at the position of word v, and 0 where the word is padding_idx."""
    a = torch.zeros(words.numel(), 1, module.num_embeddings, dtype=module.weight.dtype)
    for t, word in enumerate(words.flatten().tolist()):
        if word != module.padding_idx:
            a[t, 0, word] = 1
    return a


def convolution_inputs(module: nn.Module, x: Tensor) -> Tensor:
    """Output p, offset k reads input p stride + k dilation - padding, wrapped as the mode says."""
    sizes = x.shape[2:]
    before, after = _padding(module)
    outputs = [
        (size + low + high - dilation * (k - 1) - 1) // stride + 1
        for size, low, high, dilation, k, stride in zip(
            sizes, before, after, module.dilation, module.kernel_size, module.stride, strict=True
        )
    ]
    outside = _OUTSIDE[module.padding_mode]

    def reads(position: Index, offset: Index) -> Index | None:
        inner = []
        for axis, (p, k) in enumerate(zip(position, offset, strict=True)):
            i = p * module.stride[axis] + k * module.dilation[axis] - before[axis]
            if not 0 <= i < sizes[axis]:
                i = outside(i, sizes[axis])
            if i is None:
                return None
            inner.append(i)
        return tuple(inner)

    return _gather(module, x, outputs, reads)


def transposed_convolution_inputs(module: nn.Module, x: Tensor) -> Tensor:
    """Input i reaches output i stride - padding + k dilation; here read back from the output."""
    sizes = x.shape[2:]
    outputs = [
        (size - 1) * stride - 2 * padding + dilation * (k - 1) + extra + 1
        for size, stride, padding, dilation, k, extra in zip(
            sizes,
            module.stride,
            module.padding,
            module.dilation,
            module.kernel_size,
            module.output_padding,
            strict=True,
        )
    ]

    def reads(position: Index, offset: Index) -> Index | None:
        inner = []
        for axis, (p, k) in enumerate(zip(position, offset, strict=True)):
            steps = p + module.padding[axis] - k * module.dilation[axis]
            i, remainder = divmod(steps, module.stride[axis])
            if remainder != 0 or not 0 <= i < sizes[axis]:
                return None
            inner.append(i)
        return tuple(inner)

    return _gather(module, x, outputs, reads)


def _gather(module: nn.Module, x: Tensor, outputs: list[int], reads: Reads) -> Tensor:
    """Visit every output position, group, channel of the group and kernel offset."""
    values = x[0].numpy()
    channels = module.in_channels // module.groups

    def row(position: Index, group: int) -> Iterator[float]:
        for c in range(group * channels, (group + 1) * channels):
            for offset in product(*map(range, module.kernel_size)):
                inner = reads(position, offset)
                yield 0.0 if inner is None else values[(c, *inner)]

    a = [
        [list(row(position, group)) for group in range(module.groups)]
        for position in product(*map(range, outputs))
    ]
    return torch.tensor(a, dtype=x.dtype)


def _padding(module: nn.Module) -> tuple[list[int], list[int]]:
    """Before and after each axis; 'same' puts the odd one after."""
    if module.padding == "valid":
        return [0] * len(module.kernel_size), [0] * len(module.kernel_size)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [total // 2 for total in totals], [total - total // 2 for total in totals]
    return list(module.padding), list(module.padding)


# index outside 0 ... size - 1 -> the index inside that stands for it, None for a zero
_OUTSIDE: dict[str, Callable[[int, int], int | None]] = {
    "zeros": lambda i, size: None,
    "circular": lambda i, size: i % size,
    "reflect": lambda i, size: -i if i < 0 else 2 * (size - 1) - i,
    "replicate": lambda i, size: 0 if i < 0 else size - 1,
}

_INPUTS_OF: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: linear_inputs,
    nn.Bilinear: bilinear_inputs,
    nn.Embedding: embedding_inputs,
    nn.Conv1d: convolution_inputs,
    nn.Conv2d: convolution_inputs,
    nn.Conv3d: convolution_inputs,
    nn.ConvTranspose1d: transposed_convolution_inputs,
    nn.ConvTranspose2d: transposed_convolution_inputs,
    nn.ConvTranspose3d: transposed_convolution_inputs,
}


def layer_inputs(module: nn.Module, *inputs: Tensor) -> Tensor:
    """The a_t of one call on one sample, [T, groups, d], without the bias's 1."""
    return _INPUTS_OF[type(module)](module, *inputs)


def output_rows(module: nn.Module, y: Tensor) -> Tensor:
    """An output (or its gradient) of one sample as [T, channels], in the order of the a_t."""
    if type(module) in (nn.Linear, nn.Bilinear, nn.Embedding):
        return y.reshape(-1, y.shape[-1])
    positions = [range(size) for size in y.shape[2:]]
    return torch.stack([y[(0, slice(None), *position)] for position in product(*positions)])
