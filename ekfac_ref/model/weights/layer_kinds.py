r"""The kinds of layers: which op applies a weight, and how the matrix is stored in it.

A kind is a module class, the op that it calls, the names of that op's arguments, how many spatial
axes its outputs end in, and how the matrix [d_out, d_in] is stored in its Parameter:

==================  =========================  ==================================================
op                  Parameter                  matrix
==================  =========================  ==================================================
linear              [out, in]                  as it is
bilinear            [out, in1, in2]            [out, in1 in2]
conv                [out, in/groups, *k]       [out, in/groups k], rows group by group
conv_transpose      [in, out/groups, *k]       [out, in/groups k], rows group by group
embedding           [vocabulary, out]          its transpose; a_t is one-hot, 0 at padding_idx
embedding_bag       [vocabulary, out]          its transpose; a is the sum or mean of one-hot rows
addmm               [in, out]                  its transpose
projection          [3 out, in] or [out, in]   its rows of query, key or value; as they are
==================  =========================  ==================================================

``to_matrix`` and ``from_matrix`` know that, and nobody else.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor, nn

from ekfac_ref.model.weights.attention import projection

Op = Callable[..., Tensor]

# module class: the op that applies its weight
OP_OF: dict[type[nn.Module], Op] = {
    nn.Linear: F.linear,
    nn.Bilinear: F.bilinear,
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
    nn.Embedding: F.embedding,
}
# Of no problem that the kit draws, and classes of packages that are not imported here. GPT-2's
# Conv1D is a Linear, its weight transposed.
OP_BY_NAME: dict[str, Op] = {
    "torch.nn.modules.sparse.EmbeddingBag": F.embedding_bag,
    "transformers.pytorch_utils.Conv1D": torch.addmm,
    "transformers.modeling_utils.Conv1D": torch.addmm,  # where old versions have it
}
SUPPORTED = tuple(
    dict.fromkeys(
        [
            *(kind.__name__ for kind in (*OP_OF, nn.MultiheadAttention)),
            *(name.rpartition(".")[2] for name in OP_BY_NAME),
        ]
    )
)
CONVOLUTIONS: tuple[Op, ...] = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED_CONVOLUTIONS: tuple[Op, ...] = (
    F.conv_transpose1d,
    F.conv_transpose2d,
    F.conv_transpose3d,
)
_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = (*_CONV[:5], "output_padding", "groups", "dilation")
# options of a lookup under which the gradient of one sample is no a g^T
NO_GRADIENT = ("max_norm", "scale_grad_by_freq", "sparse")
# op, linear in its weight: names of its arguments, in order
ARGUMENTS_OF: dict[Op, tuple[str, ...]] = {
    F.linear: ("input", "weight", "bias"),
    F.bilinear: ("input1", "input2", "weight", "bias"),
    F.embedding: ("input", "weight", "padding_idx", "max_norm", "norm_type", *NO_GRADIENT[1:]),
    F.embedding_bag: ("input", "weight"),  # torch names the others
    torch.addmm: ("bias", "input", "weight"),
    projection: ("input", "weight", "bias", "rows"),
    **dict.fromkeys(CONVOLUTIONS, _CONV),
    **dict.fromkeys(TRANSPOSED_CONVOLUTIONS, _TRANSPOSED),
}
MATRIX_PRODUCTS: tuple[Op, ...] = (F.linear, torch.addmm, projection)  # of the input as it is
LOOKUPS: tuple[Op, ...] = (F.embedding, F.embedding_bag)  # of integers
_TRANSPOSES: tuple[Op, ...] = (*LOOKUPS, torch.addmm)
# op: how many axes of its output stand behind the channels; 0 for those that are not named
SPATIAL_AXES = dict(zip(CONVOLUTIONS + TRANSPOSED_CONVOLUTIONS, 2 * (1, 2, 3), strict=True))


def op_of(module: nn.Module) -> Op | None:
    """The op that applies the module's weight, which it is linear in; None where none is known."""
    known = (op for kind, op in OP_OF.items() if isinstance(module, kind))
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__)
    by_name = (OP_BY_NAME[name] for name in names if name in OP_BY_NAME)
    return next(known, next(by_name, None))


def to_matrix(
    op: Op | None, weight: Shaped[Tensor, "..."], groups: int
) -> Shaped[Tensor, "d_out d_weight"]:
    """The Parameter (or its gradient) as the matrix that multiplies a; groups stacked as rows.

    Without an op it is a row.
    """
    if op is None:
        return weight.reshape(1, -1)
    if op in _TRANSPOSES:
        return weight.flatten(1).T
    if op in TRANSPOSED_CONVOLUTIONS:
        by_group = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        return by_group.transpose(1, 2).flatten(0, 1).flatten(1)
    return weight.flatten(1)


def from_matrix(
    op: Op | None, matrix: Shaped[Tensor, "d_out d_weight"], shape: torch.Size, groups: int
) -> Shaped[Tensor, "..."]:
    """What ``to_matrix`` was given: shape is the Parameter's; only d_out may differ from it."""
    if op is None:
        return matrix.reshape(shape)
    if op in _TRANSPOSES:
        return matrix.T.contiguous().unflatten(1, (*shape[1:-1], -1))
    if op in TRANSPOSED_CONVOLUTIONS:
        by_group = matrix.reshape(groups, -1, shape[0] // groups, *shape[2:])
        return by_group.transpose(1, 2).flatten(0, 1)
    return matrix.reshape(-1, *shape[1:])
