"""Features of how a network's layers are wired, which code that hooks modules is prone to miss."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.utils._pytree import tree_leaves

from ekfac_ref.conformance.problems.facts import ANY_CONVOLUTION, Facts
from ekfac_ref.conformance.problems.networks import SelfAttention
from ekfac_ref.model.weights.layer_kinds import OP_OF


@dataclass(frozen=True)
class Feature:
    """One feature.

    Attributes:
        name: as reports have it.
        has: whether a problem has it.
        kinds: of layers that can have it; () where it is no matter of a layer.
    """

    name: str
    has: Callable[[Facts], bool]
    kinds: tuple[type[nn.Module], ...] = ()


def _tied(facts: Facts) -> bool:
    owners = Counter(id(p) for m in facts.problem.model.modules() for p in m.parameters(False))
    return max(owners.values(), default=0) > 1


def _two_names(facts: Facts) -> bool:
    names = Counter(id(m) for _, m in facts.problem.model.named_modules(remove_duplicate=False))
    return max(names.values()) > 1


def _folded(facts: Facts) -> bool:
    """Whether some Linear gets the tokens of all samples as its rows."""
    return any(
        isinstance(use.layer, nn.Linear)
        and len(use.x) == 2
        and use.x[0] > use.samples
        and use.x[0] % use.samples == 0
        for use in facts.uses
    )


def _tokens_first(facts: Facts) -> bool:
    return any(
        len(use.x) == 3 and use.x[0] != use.samples == use.x[1]
        for use in facts.uses
        if isinstance(use.layer, nn.Linear)
    )


def _broadcast(facts: Facts) -> bool:
    return any(use.x[0] == 1 < use.samples for use in facts.uses)


def _several_inputs(facts: Facts) -> bool:
    """Whether the model takes several tensors of numbers."""
    (inputs, _), *_rest = facts.problem.batches
    return sum(x.dtype.is_floating_point for x in tree_leaves(inputs)) > 1


def _behind(facts: Facts) -> bool:
    return any(isinstance(use.layer, ANY_CONVOLUTION) and not use.first for use in facts.uses)


def _has_frozen_weight(module: nn.Module) -> bool:
    return isinstance(module, tuple(OP_OF)) and not module.weight.requires_grad


def _has_other_parameters(module: nn.Module) -> bool:
    mine = module.parameters(False)
    return not isinstance(module, tuple(OP_OF)) and any(p.requires_grad for p in mine)


def _some_module(has: Callable[[nn.Module], bool]) -> Callable[[Facts], bool]:
    return lambda facts: any(has(module) for module in facts.problem.model.modules())


_LINEAR = (nn.Linear,)
WIRING = (
    Feature("convolution behind a layer", _behind, ANY_CONVOLUTION),
    Feature("tokens as samples", _folded, _LINEAR),
    Feature("tokens first", _tokens_first, _LINEAR),
    Feature("self-attention", _some_module(lambda m: isinstance(m, SelfAttention)), _LINEAR),
    Feature(
        "MultiheadAttention",
        _some_module(lambda m: isinstance(m, nn.MultiheadAttention)),
        _LINEAR,
    ),
    Feature("weight used beside its module", lambda facts: facts.applied > 0, _LINEAR),
    Feature("one input for all samples", _broadcast, _LINEAR),
    Feature("several inputs", _several_inputs, (nn.Linear, nn.Bilinear)),
    Feature("input changed in place", lambda facts: facts.overwritten, _LINEAR),
    Feature(
        "subclass of a layer",
        lambda facts: any(type(layer) not in OP_OF for layer in facts.layers),
        (nn.Linear, nn.Conv2d),
    ),
    Feature("called twice", lambda facts: facts.often > 1),
    Feature("tied weight", _tied),
    Feature("one module, two names", _two_names),
    Feature("in-place activation", _some_module(lambda m: bool(getattr(m, "inplace", False)))),
    Feature("frozen layer", _some_module(_has_frozen_weight)),
    Feature("parameters of no layer", _some_module(_has_other_parameters)),
    Feature(
        "BatchNorm",
        _some_module(lambda m: isinstance(m, nn.modules.batchnorm._BatchNorm)),
    ),
    Feature("dropout", _some_module(lambda m: isinstance(m, nn.modules.dropout._DropoutNd))),
)
