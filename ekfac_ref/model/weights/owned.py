"""The weights that a module applies by itself: one in most kinds, three in torch's attention."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from ekfac_ref.model.weights.attention import QUERY_KEY_VALUE, RowRanges, projection, third
from ekfac_ref.model.weights.layer_kinds import Op, op_of


@dataclass(frozen=True, eq=False)
class Owned:
    """One weight of one module.

    Attributes:
        name: of the module, or ``"attention.q_proj"`` for one of several weights.
        kind: the module's class, as messages have it.
        op: what applies the weight.
        weight: as the module has it: a Parameter, or a tensor that is computed from others, or of
            those.
        bias: likewise, or None.
        rows: which rows of weight and of bias are meant; None for all.
        groups: of a grouped convolution, else 1.
        options: the module's attributes.
    """

    name: str
    kind: str
    op: Op
    weight: Any
    bias: Any
    rows: RowRanges
    groups: int
    options: dict[str, Any]

    @property
    def trainable(self) -> bool:
        """Whether the weight is a Parameter that is trained."""
        return isinstance(self.weight, nn.Parameter) and self.weight.requires_grad

    @property
    def trainable_bias(self) -> Tensor | None:
        """The bias, unless it is none, frozen, or computed from other parameters."""
        is_one = isinstance(self.bias, nn.Parameter) and self.bias.requires_grad
        return self.bias if is_one else None


@dataclass(frozen=True)
class BareWeight:
    """One matrix, or kernel, of a Parameter that a forward applies, and no supported module has.

    Attributes:
        name: of the Parameter, with ``[e]`` behind it for one of several matrices in a stack.
        op: what applies it; of a product, ``F.linear`` as it is, ``torch.addmm`` its transpose.
        weight: name of the Parameter.
        bias: of that of its bias, if it has one.
        rows: which rows of both are meant; None for all.
        groups: of a grouped convolution, else 1.
    """

    name: str
    op: Op
    weight: str
    bias: str | None
    rows: RowRanges
    groups: int

    def of(self, model: nn.Module) -> Owned:
        """In a model that has Parameters of these names."""
        weight = model.get_parameter(self.weight)
        bias = None if self.bias is None else model.get_parameter(self.bias)
        return Owned(self.name, "Parameter", self.op, weight, bias, self.rows, self.groups, {})


def owned_by(name: str, module: nn.Module) -> tuple[Owned, ...]:
    """The weights that the module itself applies, not those of modules inside of it.

    The projections of an ``nn.MultiheadAttention`` are named like the Parameters that torch makes
    where they are not packed: ``q_proj``, ``k_proj``, ``v_proj``, beside the module ``out_proj``.
    """
    kind, options = type(module).__name__, vars(module)
    if isinstance(module, nn.MultiheadAttention):
        return _projections(name, module)
    op = op_of(module)
    if op is None or options.get("mode") == "max":  # which a bag of words is not linear with
        return ()
    weight, bias = _without_computing("weight", module), _without_computing("bias", module)
    groups = int(getattr(module, "groups", 1))
    return (Owned(name, kind, op, weight, bias, (None, None), groups, options),)


def _without_computing(name: str, module: nn.Module) -> Any:
    """The attribute; of one that a parametrization computes, what it is computed from, detached.

    Computing it may change the module: a spectral norm in train mode goes one step further.
    """
    if not parametrize.is_parametrized(module, name):
        return getattr(module, name, None)
    given: Any = module.parametrizations
    return next(given[name].parameters()).detach()


def _projections(name: str, module: nn.MultiheadAttention) -> tuple[Owned, ...]:
    kind, options = type(module).__name__, vars(module)
    bias, owned = _without_computing("in_proj_bias", module), []
    of_bias = 0 if bias is None else len(bias)
    for k, part in enumerate(QUERY_KEY_VALUE):
        weight, rows = _without_computing(f"{part}_weight", module), None
        if weight is None:
            weight = _without_computing("in_proj_weight", module)
            rows = third(k, len(weight))
        own = f"{name}.{part}".lstrip(".")
        owned.append(
            Owned(own, kind, projection, weight, bias, (rows, third(k, of_bias)), 1, options)
        )
    return tuple(owned)
