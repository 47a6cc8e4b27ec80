"""Parameter groups of an optimizer: of whole layers, with settings that make sense."""

from collections.abc import Iterable, Mapping, Set
from math import isfinite
from typing import Any

from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.optim.directions import is_number
from ekfac_ref.optim.preconditioner import Preconditioner

_SETTINGS = ("lr", "momentum", "weight_decay", "damping")
_FOR_SCHEDULERS = ("initial_lr",)


def listed(groups: Any) -> list[dict[str, Any]]:
    """The groups as dicts of one's own, or a ProblemError where they are no list of such."""
    given = list(groups) if isinstance(groups, Iterable) else []
    if isinstance(groups, Mapping) or not given or not all(map(_is_group, given)):
        one = next((f" that has a {type(x).__name__}" for x in given if not _is_group(x)), "")
        raise ProblemError(
            f"groups: of type {type(groups).__name__}{one}, and no list of dicts with params; pass "
            "[{'params': [...], 'lr': ...}, ...] as to torch.optim, or leave groups out for one of "
            "all trainable parameters."
        )
    return [dict(group) for group in given]


def _is_group(group: Any) -> bool:
    return isinstance(group, Mapping) and "params" in group


def check_group(
    preconditioner: Preconditioner,
    group: Mapping[str, Any],
    defaults: Mapping[str, Any],
    taken: set[str],
) -> dict[str, Any]:
    """The group with its parameters named, or a ProblemError."""
    listed([group])
    if isinstance(group["params"], Set):
        raise ProblemError(
            "groups: one has a set of parameters, whose order changes from run to run; pass a list."
        )
    if not isinstance(group["params"], Iterable):
        raise ProblemError(
            f"groups: one has the params {group['params']!r}; pass a list of Parameters of the "
            "model."
        )
    given = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
    tensors = [x[1] if isinstance(x, tuple) else x for x in given]
    names = _names(preconditioner, tensors, taken)
    for layer in preconditioner.layers:
        inside = [name for name in layer.parameters if name in names]
        outside = [name for name in layer.parameters if name not in names]
        if inside and outside:
            raise ProblemError(
                f"groups: one has {inside[0]!r}, but not {outside[0]!r}, and the layer "
                f"{layer.name!r} is preconditioned as one matrix [W | b]; put both into one group."
            )
    for key in group:
        if key not in ("params", *_SETTINGS, *_FOR_SCHEDULERS):
            raise ProblemError(
                f"groups: one has a setting {key!r}; only {', '.join(_SETTINGS)} can differ from "
                "group to group."
            )
    check_settings({**defaults, **group})
    return {**group, "params": list(zip(names, tensors, strict=True))}


def _names(preconditioner: Preconditioner, tensors: list[Any], taken: set[str]) -> list[str]:
    by_identity = {id(p): name for name, p in preconditioner.model.named_parameters()}
    names: list[str] = []
    for tensor in tensors:
        name = by_identity.get(id(tensor))
        if name is None:
            what = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ProblemError(
                f"groups: one has a parameter ({what}) that is not of the model; take them from "
                "model.parameters()."
            )
        if name in taken or name in names:
            raise ProblemError(f"groups: {name!r} is in them twice; put it into one group.")
        names.append(name)
    return names


def check_settings(group: Mapping[str, Any]) -> None:
    """Raise a ProblemError for a setting of a group with which no step makes sense."""
    for name in _SETTINGS:
        value = group[name]
        if not is_number(value) or not isfinite(value) or (name != "damping" and value < 0):
            raise ProblemError(f"{name}: {value!r} is not a finite number >= 0; choose one.")


def check_kl_clip(kl_clip: float | None) -> None:
    """Raise a ProblemError unless it is None or a positive number."""
    if kl_clip is not None and not (is_number(kl_clip) and kl_clip > 0):
        raise ProblemError(
            f"kl_clip: {kl_clip!r} is not > 0; choose a bound in nats per sample, or None."
        )


def check_still_of(model: nn.Module, groups: list[dict[str, Any]]) -> None:
    """Raise a ProblemError where a Parameter of the groups is no longer the model's of its name."""
    now = dict(model.named_parameters())
    for group in groups:
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            if now.get(name) is not parameter:
                what = "another Parameter than" if name in now else "not there as"
                raise ProblemError(
                    f"model: {name!r} is {what} at construction, and steps would move the old one; "
                    "make a new optimizer after changing the model. (To load values, let them go "
                    "into the old Parameters: load_state_dict without assign.)"
                )


def check_same_parameters(groups: list[dict[str, Any]], state: Mapping[str, Any]) -> None:
    """Raise a ProblemError unless a state dict is of an optimizer with the same groups."""
    theirs = [group.get("param_names") for group in state["param_groups"]]
    ours = [group["param_names"] for group in groups]
    if theirs != ours:
        raise ProblemError(
            f"state: its groups have the parameters {theirs}, but those of this optimizer {ours}; "
            "load the state of an optimizer with the same model and groups."
        )
    numbered = [p for group in groups for p in group["params"]]
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    for number, parameter in zip(numbers, numbered, strict=True):
        velocity = state["state"].get(number, {}).get("velocity")
        if velocity is not None and velocity.shape != parameter.shape:
            raise ProblemError(
                f"state: a velocity has shape {list(velocity.shape)}, but its parameter "
                f"{list(parameter.shape)}; load the state of the same model."
            )
