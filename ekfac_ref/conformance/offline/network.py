r"""A network as a list of operations with named values: what a program in any language can run.

Only modules that are written here have one; of others it is said that they have none.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from ekfac_ref.conformance.problems import networks

Node = dict[str, Any]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ELEMENTWISE: dict[type[nn.Module], str] = {nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.ReLU: "relu"}
_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)  # in eval mode


class NoOperation(Exception):
    """The network has a module that is not written as operations: which."""


class Nodes:
    """The operations of one network, in their order.

    Args:
        model: the network.
        layer_of: {name of a weight: the layer that is asked about it}.

    Attributes:
        found: the operations so far.
        parameters: {name: values} of the network, of what is packed into one each part by itself.
    """

    def __init__(self, model: nn.Module, layer_of: dict[str, str]) -> None:
        self.found: list[Node] = []
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        self._names = {id(p): name for name, p in model.named_parameters()}
        self._layer_of = layer_of

    def add(self, op: str, inputs: Sequence[str], **options: Any) -> str:
        """One operation; the name of its value."""
        out = f"v{len(self.found) + 1}"
        self.found.append({"op": op, "in": list(inputs), "out": out, **options})
        return out

    def weighted(self, op: str, module: Any, inputs: Sequence[str], **options: Any) -> str:
        """One operation with a weight, and the layer that is asked about it, or null."""
        weight, bias = self._names[id(module.weight)], getattr(module, "bias", None)
        own = {"layer": self._layer_of.get(weight), "weight": weight}
        own["bias"] = None if bias is None else self._names[id(bias)]
        return self.add(op, inputs, **own, **options)

    def thirds(self, packed: nn.Parameter) -> list[str]:
        """The names of its three parts, which take its place."""
        name = self._names[id(packed)]
        if name not in self.parameters or name in self._layer_of:
            raise NoOperation(
                "attention that is called twice, or whose projections are asked about"
            )
        parts = [f"{name}.{part}" for part in ("query", "key", "value")]
        self.parameters |= zip(parts, self.parameters.pop(name).chunk(3), strict=True)
        return parts

    def of(self, module: nn.Module, *inputs: str) -> str:
        """The module's operations on these values; the name of what comes out."""
        kind = type(module)
        if isinstance(module, _NORMS):
            return _norm(self, module, *inputs)
        if module.training and kind in _NOTHING[1:]:
            raise NoOperation(f"{kind.__name__} in train mode")
        if kind in _NOTHING:
            return inputs[0]
        if kind in _ELEMENTWISE:
            return self.add(_ELEMENTWISE[kind], inputs)
        if kind not in _WRITTEN:
            raise NoOperation(kind.__name__)
        return _WRITTEN[kind](self, module, *inputs)


def nodes_of(
    model: nn.Module, inputs: Sequence[str], layer_of: dict[str, str]
) -> tuple[list[Node], dict[str, Tensor]]:
    """All operations, of which the last one's value is the output, and their parameters."""
    nodes = Nodes(model, layer_of)
    nodes.of(model, *inputs)
    return nodes.found, nodes.parameters


def _sequential(nodes: Nodes, module: Any, *inputs: str) -> str:
    (x,) = inputs
    for child in module:
        x = nodes.of(child, x)
    return x


def _linear(nodes: Nodes, module: Any, x: str) -> str:
    return nodes.weighted("linear", module, [x])


def _bilinear(nodes: Nodes, module: Any, x1: str, x2: str) -> str:
    return nodes.weighted("bilinear", module, [x1, x2])


def _embedding(nodes: Nodes, module: Any, x: str) -> str:
    return nodes.weighted("embedding", module, [x], padding_idx=module.padding_idx)


def _convolution(nodes: Nodes, module: Any, x: str) -> str:
    pairs = [[p, p] for p in module.padding] if not isinstance(module.padding, str) else []
    if module.padding == "same":  # the odd one behind
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        pairs = [[total // 2, total - total // 2] for total in totals]
    return nodes.weighted(
        "conv",
        module,
        [x],
        stride=list(module.stride),
        dilation=list(module.dilation),
        groups=module.groups,
        padding=pairs,
        padding_mode=module.padding_mode,
    )


def _transposed(nodes: Nodes, module: Any, x: str) -> str:
    return nodes.weighted(
        "conv_transpose",
        module,
        [x],
        stride=list(module.stride),
        dilation=list(module.dilation),
        groups=module.groups,
        padding=list(module.padding),
        output_padding=list(module.output_padding),
    )


def _scaled(nodes: Nodes, x: str, scale: Sequence[float], shift: Sequence[float] = (0.0,)) -> str:
    return nodes.add("scale_shift", [x], scale=list(scale), shift=list(shift))


def _norm(nodes: Nodes, module: Any, x: str) -> str:
    if module.training:
        return nodes.add("batch_norm", [x], training=True)
    mean, var = module.running_mean.double(), module.running_var.double()
    weight, bias = (1.0, 0.0) if module.weight is None else (module.weight, module.bias)
    scale = weight / (var + module.eps).sqrt()
    return _scaled(nodes, x, scale.tolist(), (bias - mean * scale).tolist())


def _scaled_layer(apply: Callable[..., str]) -> Callable[..., str]:
    return lambda nodes, module, x: _scaled(nodes, apply(nodes, module, x), [1.5])


def _used_beside(nodes: Nodes, module: Any, x: str) -> str:
    return nodes.of(module.layer, nodes.add("tanh", [nodes.of(module.layer, x)]))


def _plus_constant(nodes: Nodes, module: Any, x: str) -> str:
    row = nodes.add("constant", [x], value=module.row.tolist())
    return nodes.add("add", [nodes.of(module.main, x), nodes.of(module.other, row)])


def _two_branches(nodes: Nodes, module: Any, x1: str, x2: str) -> str:
    first = nodes.add("tanh", [nodes.of(module.first, x1)])
    return nodes.add("multiply", [first, nodes.of(module.second, x2)])


def _changes_its_input(nodes: Nodes, module: Any, x: str) -> str:
    return nodes.add("add", [nodes.of(module.layer, x), _scaled(nodes, x, [3.0])])


def _self_attention(nodes: Nodes, module: Any, x: str) -> str:
    key = nodes.add("transpose", [nodes.of(module.key, x)])
    scores = nodes.add("matmul", [nodes.of(module.query, x), key])
    attended = [nodes.add("softmax", [scores]), nodes.of(module.value, x)]
    return nodes.of(module.out, nodes.add("matmul", attended))


def _attending(nodes: Nodes, module: Any, x: str) -> str:
    """Of one head, its three projections each by itself."""
    own = module.attention
    packed = own.in_proj_weight is not None and own.in_proj_bias is not None
    more = own.bias_k is not None or own.add_zero_attn or (own.training and own.dropout > 0)
    if own.num_heads != 1 or not own.batch_first or not packed or more:
        raise NoOperation("attention but of one head, samples first, without options")
    pairs = zip(nodes.thirds(own.in_proj_weight), nodes.thirds(own.in_proj_bias), strict=True)
    query, key, value = (
        nodes.add("linear", [x], layer=None, weight=weight, bias=bias) for weight, bias in pairs
    )
    scores = nodes.add("matmul", [query, nodes.add("transpose", [key])])
    weights = nodes.add("softmax", [_scaled(nodes, scores, [own.head_dim**-0.5])])
    return nodes.of(own.out_proj, nodes.add("matmul", [weights, value]))


def _masked_mean(nodes: Nodes, module: Any, x: str) -> str:
    body = nodes.of(module.body, x)
    return nodes.of(module.head, nodes.add("masked_mean", [body]))


def _called_twice(nodes: Nodes, module: Any, x: str) -> str:
    h = nodes.of(module.activation, nodes.of(module.shared, x))
    return nodes.of(module.head, nodes.of(module.activation, nodes.of(module.shared, h)))


def _two_inputs(nodes: Nodes, module: Any, x1: str, x2: str) -> str:
    return nodes.of(module.head, nodes.of(module.activation, nodes.of(module.bilinear, x1, x2)))


# What is folded or turned round before a body and back behind it is the body on every token.
_WRITTEN: dict[type[nn.Module], Callable[..., str]] = {
    nn.Sequential: _sequential,
    nn.Linear: _linear,
    nn.modules.linear.NonDynamicallyQuantizableLinear: _linear,  # the last of an attention
    nn.Bilinear: _bilinear,
    nn.Embedding: _embedding,
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_TRANSPOSED, _transposed),
    nn.Flatten: lambda nodes, module, x: nodes.add("flatten", [x]),
    networks.TokenMean: lambda nodes, module, x: nodes.add("mean", [x]),
    networks.Mixing: lambda nodes, module, x: nodes.add("add_mean", [x]),
    networks.ClassesFirst: lambda nodes, module, x: nodes.add("transpose", [x]),
    networks.MaskedMean: _masked_mean,
    networks.CalledTwice: _called_twice,
    networks.TwoInputs: _two_inputs,
    networks.TwoNames: lambda nodes, module, x: nodes.of(module.layer, x),
    networks.Folded: lambda nodes, module, x: nodes.of(module.body, x),
    networks.TokensFirst: lambda nodes, module, x: nodes.of(module.body, x),
    networks.UsedBeside: _used_beside,
    networks.PlusConstant: _plus_constant,
    networks.TwoBranches: _two_branches,
    networks.ChangesItsInput: _changes_its_input,
    networks.SelfAttention: _self_attention,
    networks.Attending: _attending,
    networks.Gain: lambda nodes, module, x: _scaled(nodes, x, module.gain.tolist()),
    networks.ScaledLinear: _scaled_layer(_linear),
    networks.ScaledConv2d: _scaled_layer(_convolution),
}
