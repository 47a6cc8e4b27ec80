"""What the EKFAC and the KFAC optimizer have in common: all but the preconditioner."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import in_algebra_dtype
from ekfac_ref.model.layers import Layer
from ekfac_ref.optim.directions import check_gradients, directions
from ekfac_ref.optim.groups import (
    check_group,
    check_kl_clip,
    check_same_parameters,
    check_settings,
    check_still_of,
    listed,
)
from ekfac_ref.optim.preconditioner import Preconditioner
from ekfac_ref.optim.reading import in_words_of
from ekfac_ref.optim.trust_region import shrinkage
from ekfac_ref.question.columns import Exact, Fisher
from ekfac_ref.question.finite import all_finite
from ekfac_ref.question.likelihoods import Likelihood
from ekfac_ref.question.problem import Inputs
from ekfac_ref.question.sharing import Expand, Sharing

Step = dict[str, Tensor]


class PreconditionedMomentum(torch.optim.Optimizer):
    r"""Momentum on preconditioned gradients, in a trust region.

    A loop is ``optimizer.update(x, y); loss.backward(); optimizer.step()``. One step, with g the
    ``.grad`` as it is found (accumulated or clipped, never changed):

        x = (scale E + damping I)^-1 g     in the layers;  x = g  elsewhere
        v = momentum v + x
        Delta = -lr v
        nu = min(1, sqrt(2 kl_clip / sum_layers Delta^T E Delta))     1 without ``kl_clip``
        theta <- theta - lr weight_decay theta + nu Delta;   v <- nu v

    The velocity that is kept is the one that theta was moved by. Parameters outside of the layers
    have no known curvature: their step is shortened alike, and not counted in the sum. Weight decay
    is decoupled (Loshchilov & Hutter 2019, 1711.05101), and outside of the trust region. Without
    momentum no velocity is kept. Parameters without ``.grad`` are skipped, as everywhere in torch.

    Whatever is wrong with a step is found before anything is changed.
    """

    kind: ClassVar[type[Preconditioner]]

    def __init__(
        self,
        model: nn.Module,
        likelihood: Likelihood | nn.Module,
        *,
        lr: float = 0.1,
        damping: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        kl_clip: float | None = 1e-3,
        groups: Iterable[Mapping[str, Any]] | None = None,
        fisher: Fisher = Exact(),  # noqa: B008  # a frozen value
        sharing: Sharing = Expand(),  # noqa: B008
        layers: tuple[str | Layer, ...] | None = None,
        mask: Callable[[Any], Tensor | None] | None = None,
        output: Callable[[Any], Tensor] | None = None,
        decay: float = 0.95,
        recompute_every: int = 10,
    ) -> None:
        check_kl_clip(kl_clip)
        with in_words_of(self):
            self.preconditioner = self.kind(
                model,
                likelihood,
                fisher=fisher,
                sharing=sharing,
                layers=layers,
                mask=mask,
                output=output,
                decay=decay,
                recompute_every=recompute_every,
            )
        self.kl_clip = kl_clip
        trainable = [p for p in model.parameters() if p.requires_grad]
        chosen = [{"params": trainable}] if groups is None else listed(groups)
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "damping": damping,
        }
        super().__init__(chosen, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Parameters of the model, whole layers; settings of their own where given."""
        taken = {name for group in self.param_groups for name in group["param_names"]}
        super().add_param_group(check_group(self.preconditioner, param_group, self.defaults, taken))

    def update(self, inputs: Inputs, targets: Tensor) -> None:
        """Take in the curvature of one batch; see the preconditioner. Not every step needs it."""
        check_still_of(self.preconditioner.model, self.param_groups)
        with in_words_of(self):
            self.preconditioner.update(inputs, targets)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns what the closure returned.

        The closure, if any, is evaluated once, with gradients enabled, before anything is
        preconditioned. No curvature is taken in.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with in_words_of(self), torch.no_grad():
            self._apply(*self._step())
        return loss

    def state_dict(self) -> dict[str, Any]:
        """torch's own, and the curvature. It does not follow later steps."""
        state = super().state_dict()
        state["state"] = {number: dict(values) for number, values in state["state"].items()}
        return state | {"curvature": self.preconditioner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, on the same model: as if never stopped.

        To the bit, if batches of one form are read alike; where the values of samples say which
        layers they use, the first batch of the new run decides, and sums are rounded otherwise.
        """
        there = state_dict if isinstance(state_dict, Mapping) else ()
        if missing := [x for x in ("curvature", "param_groups", "state") if x not in there]:
            raise ProblemError(
                f"state: there is no {missing[0]} in it; pass what state_dict() of an optimizer "
                f"{type(self).__name__} returned."
            )
        state = dict(state_dict)
        curvature = state.pop("curvature")
        check_same_parameters(self.param_groups, state)
        before = self.preconditioner.state_dict()
        self.preconditioner.load_state_dict(curvature)
        try:
            super().load_state_dict(state)
        except BaseException:
            self.preconditioner.load_state_dict(before)
            raise

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {
            "preconditioner": self.preconditioner,
            "kl_clip": self.kl_clip,
        }

    def _step(self) -> tuple[Step, Step]:
        """nu v and the new theta, of all parameters that have a gradient."""
        for group in self.param_groups:  # a scheduler, or a loaded state, may have set them
            check_settings(group)
        own = self.preconditioner.own_operators
        check_still_of(self.preconditioner.model, self.param_groups)
        self.preconditioner.check_model()
        layers = self.preconditioner.layers
        named = {n: (p, group) for group in self.param_groups for n, p in _named(group)}
        gradients = {name: p.grad for name, (p, _) in named.items() if p.grad is not None}
        check_gradients(layers, {name: p for name, (p, _) in named.items()}, gradients)
        dampings = {
            layer.name: named[layer.parameters[0]][1]["damping"]
            for layer in layers
            if layer.parameters[0] in named
        }
        velocities = directions(layers, own, gradients, dampings)
        for name, x in velocities.items():
            p, group = named[name]
            before = self.state.get(p, {}).get("velocity")  # [p] would make an entry
            if group["momentum"] and before is not None:
                velocities[name] = x + group["momentum"] * before
        steps = {name: v * -float(named[name][1]["lr"]) for name, v in velocities.items()}
        for name, Delta in steps.items():
            if not all_finite(Delta):
                raise ProblemError(
                    f"parameter {name!r}: its step overflows; raise damping, or lower lr."
                )
        nu = 1.0 if self.kl_clip is None else self._shrinkage(steps, self.kl_clip)
        moved = {}
        for name, Delta in steps.items():
            p, group = named[name]
            kept = 1 - float(group["lr"]) * float(group["weight_decay"])
            moved[name] = p.mul(kept).add_(Delta, alpha=nu)
            if not all_finite(moved[name]):
                raise ProblemError(
                    f"parameter {name!r}: it would be NaN or infinite after this step; restore the "
                    "last good values, or lower lr or weight_decay."
                )
        return {name: v * nu for name, v in velocities.items()}, moved

    def _shrinkage(self, steps: Step, kl_clip: float) -> float:
        matrices = {
            layer.name: in_algebra_dtype(layer.to_matrix(steps))
            for layer in self.preconditioner.layers
            if layer.parameters[0] in steps
        }
        return shrinkage(self.preconditioner.operators, matrices, kl_clip)

    def _apply(self, velocities: Step, moved: Step) -> None:
        for group in self.param_groups:
            for name, p in _named(group):
                if name not in moved:
                    continue
                if group["momentum"]:
                    self.state[p]["velocity"] = velocities[name]
                else:
                    self.state.pop(p, None)
                p.copy_(moved[name])


def _named(group: dict[str, Any]) -> list[tuple[str, nn.Parameter]]:
    return list(zip(group["param_names"], group["params"], strict=True))
