"""torch's attention once more, out of four Linear layers and what is between them, by hand."""

import copy

import torch
from torch import Tensor, nn


class ByHand(nn.Module):
    """An ``nn.MultiheadAttention`` with these weights, in layers of the names that are its own."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first = packed.num_heads, packed.batch_first
        d, in_bias = packed.embed_dim, packed.in_proj_bias
        if packed.in_proj_weight is None:
            weights = [packed.q_proj_weight, packed.k_proj_weight, packed.v_proj_weight]
        else:
            weights = [packed.in_proj_weight[k * d : (k + 1) * d] for k in range(3)]
        biases = [None if in_bias is None else in_bias[k * d : (k + 1) * d] for k in range(3)]
        self.q_proj, self.k_proj, self.v_proj = map(as_linear, weights, biases)
        self.out_proj = as_linear(packed.out_proj.weight, packed.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        width, outputs = q.shape[-1] // self.heads, []
        for h in range(self.heads):
            own = slice(h * width, (h + 1) * width)
            scores = q[..., own] @ k[..., own].transpose(1, 2) / width**0.5
            for mask in (
                attn_mask,
                None if key_padding_mask is None else key_padding_mask[:, None],
            ):
                if mask is not None and mask.dtype == torch.bool:
                    scores = scores.masked_fill(mask, -torch.inf)
                elif mask is not None:
                    scores = scores + mask
            outputs.append(scores.softmax(-1) @ v[..., own])
        y = self.out_proj(torch.cat(outputs, -1))
        return (y if self.batch_first else y.transpose(0, 1)), None


def as_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A Linear with copies of these."""
    layer = nn.Linear(*weight.shape[::-1], bias=bias is not None).to(weight.dtype)
    layer.weight.data = weight.detach().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer


def by_hand(model: nn.Module) -> nn.Module:
    """A copy of the model with every attention by hand."""
    copied = copy.deepcopy(model)
    for parent in [*copied.modules()]:
        for name, child in parent.named_children():
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, ByHand(child))
    return copied


def packed_again(model: nn.Module, plain: nn.Module) -> dict[str, Tensor]:
    """Parameters of ``plain``, which is ``by_hand(model)``, named and shaped like the model's."""
    found = dict(plain.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            for kind in ("weight", "bias"):
                parts = [found.pop(f"{name}.{x}_proj.{kind}", None) for x in "qkv"]
                if parts[0] is not None and getattr(module, f"in_proj_{kind}") is not None:
                    found[f"{name}.in_proj_{kind}"] = torch.cat(parts)
                elif parts[0] is not None:
                    names = [f"{name}.{x}_proj_{kind}" for x in "qkv"]
                    found |= dict(zip(names, parts, strict=True))
    return found
