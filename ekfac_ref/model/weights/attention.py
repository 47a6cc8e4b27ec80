r"""torch's attention as what it is: four layers, and between them nothing that has a weight.

    y = W_out [ head_1 ... head_h ] + b_out,    head = softmax(q k^T / sqrt(d_head) + masks) v,
    q = W_q x_query + b_q,    k = W_k x_key + b_k,    v = W_v x_value + b_v

``nn.MultiheadAttention`` calls no module for any of them: one function is given all Parameters. It
packs W_q, W_k and W_v into one, in_proj_weight [3 d, d], where their inputs have as many features;
and b_q, b_k and b_v in any case, in_proj_bias [3 d].
"""

from collections.abc import Iterable
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Shaped
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

RowRange = (
    tuple[int, int] | None
)  # of a Parameter: the first, and the one behind the last; None: all
RowRanges = tuple[RowRange, RowRange]  # of a weight and of its bias
QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")
_PARAMETERS_OF = signature(F.multi_head_attention_forward)
_WEIGHTS = ("in_proj_weight", *(f"{name}_weight" for name in QUERY_KEY_VALUE), "out_proj_weight")


def rows_of(packed: Shaped[Tensor, "..."], rows: RowRange) -> Shaped[Tensor, "..."]:
    """These rows of a weight, or of what is shaped like it; of a stack of matrices, of all."""
    if rows is None:
        return packed
    return (packed.flatten(0, 1) if packed.dim() == 3 else packed)[slice(*rows)]


def entries_of(packed: Shaped[Tensor, "..."], rows: RowRange) -> Shaped[Tensor, " rows"]:
    """These entries of a bias; of a stack of biases, of all one behind the other."""
    return packed if rows is None else packed.reshape(-1)[slice(*rows)]


def third(k: int, length: int) -> RowRange:
    """The rows of query, key or value, k = 0, 1 or 2, in a Parameter that has all of them."""
    return k * (length // 3), (k + 1) * (length // 3)


def projection(
    input: Shaped[Tensor, "*axes d_weight"],
    weight: Shaped[Tensor, "rows d_weight"],
    bias: Shaped[Tensor, " rows_of_bias"] | None,
    rows: RowRanges,
) -> Shaped[Tensor, "*axes d_out"]:
    """W x + b, with W these rows of ``weight`` and b those of ``bias``; one op to a mode."""
    tensors = tuple(x for x in (input, weight, bias) if x is not None)
    if has_torch_function(tensors):
        y: Tensor = handle_torch_function(projection, tensors, input, weight, bias, rows)
        return y
    own_bias = None if bias is None else entries_of(bias, rows[1])
    return F.linear(input, rows_of(weight, rows[0]), own_bias)


def projected_rows(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> RowRanges | None:
    """Of weight and bias, in a call of ``projection``; None where func is another."""
    if func is not projection:
        return None
    rows: RowRanges = signature(projection).bind(*args, **kwargs).arguments["rows"]
    return rows


def weights_given(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterable[Any]:
    """The weights, or None, in a call of ``F.multi_head_attention_forward``; none of another."""
    if func is not F.multi_head_attention_forward:
        return ()
    given = _PARAMETERS_OF.bind(*args, **kwargs).arguments
    return [given.get(name) for name in _WEIGHTS]


def layer_by_layer(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    """What ``F.multi_head_attention_forward`` returns, each layer applied by an op of its own.

    Between them it is that function itself, at identity weights: these change no number.
    """
    given = _PARAMETERS_OF.bind(*args, **kwargs).arguments
    apart = given.get("use_separate_proj_weight", False)
    packed, bias = given["in_proj_weight"], given["in_proj_bias"]
    between = dict(given, in_proj_weight=None, in_proj_bias=None, use_separate_proj_weight=True)
    for k, (name, x) in enumerate(zip(QUERY_KEY_VALUE, ("query", "key", "value"), strict=True)):
        weight = given[f"{name}_weight"] if apart else packed
        rows = None if apart else third(k, len(packed)), third(k, 0 if bias is None else len(bias))
        between[x] = projection(given[x], weight, bias, rows)
        between[f"{name}_weight"] = _identity_on(between[x])
    out_weight, out_bias = given["out_proj_weight"], given["out_proj_bias"]
    between |= {"out_proj_weight": _identity_on(between["query"]), "out_proj_bias": None}
    attended, weights = F.multi_head_attention_forward(**between)
    return F.linear(attended, out_weight, out_bias), weights


def _identity_on(x: Shaped[Tensor, "*axes d"]) -> Shaped[Tensor, "d d"]:
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
