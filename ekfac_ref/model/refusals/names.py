"""Names of layers, as a caller gives them: an error for one that is none, with those there are."""

from torch import nn

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.weights.layer_kinds import SUPPORTED
from ekfac_ref.model.weights.owned import Owned, owned_by


def check_names(
    model: nn.Module, known: dict[str, Owned], names: tuple[str, ...], given: bool
) -> None:
    """Raise a ProblemError for a name of no layer that has a trainable weight.

    ``known``: the layers there are. ``given``: whether the caller gave any names, or left them
    away.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    supported = [*known]
    if given and not names:
        raise ProblemError(
            f"layers: no name is given; choose among {supported}, or leave layers=None."
        )
    for name in names:
        parameter = name.rpartition("[")[0] if name.endswith("]") else name
        if parameter in parameters and name not in known:
            what = "a parameter" if name == parameter else "one matrix of a parameter"
            raise ProblemError(
                f"layers: {name!r} is {what} that no module here applies; if it is trainable, "
                f"per_sample_gradients and exact_fisher are defined for {parameter!r}, and factors "
                "where the forward of some data uses it as a layer would, and in no other way: of "
                "layers_of(problem), which an optimizer, too, takes in place of names; or choose "
                f"among {supported}."
            )
        if name not in modules and name not in known:
            raise ProblemError(f"layers: there is no module {name!r}; choose among {supported}.")
        if name not in known and (several := _inside(modules[name], name)):
            raise ProblemError(
                f"layers: {name!r} is a {type(modules[name]).__name__}, which has several layers; "
                f"name those that you mean, of {several}."
            )
        if name not in known:
            own = tuple(
                f"{name}.{part}" for part, _ in modules[name].named_parameters(recurse=False)
            )
            raise ProblemError(
                f"layers: {name!r} is a {type(modules[name]).__name__}, which is not linear in one "
                f"weight; choose among {supported}"
                + (f", or name its parameters for exact_fisher alone, {own}." if own else ".")
            )
        if not isinstance(known[name].weight, nn.Parameter):
            raise ProblemError(
                f"layers: the weight of {name!r} is computed from other parameters, not one "
                "itself; undo that (parametrize.remove_parametrizations, prune.remove), or leave "
                "the name out."
            )
        if not known[name].trainable:
            raise ProblemError(
                f"layers: the weight of {name!r} is frozen; call requires_grad_(True) on it, or "
                "leave the name out."
            )


def _inside(module: nn.Module, name: str) -> tuple[str, ...]:
    """The layers of torch's attention; none of other modules."""
    if not isinstance(module, nn.MultiheadAttention):
        return ()
    parts = ((f"{name}.{part}".strip("."), m) for part, m in module.named_modules())
    return tuple(one.name for part, m in parts for one in owned_by(part, m))


def naming(layers: tuple[str, ...]) -> str:
    """How to go on with these layers alone."""
    if layers:
        return f"naming the layers to treat: Problem(layers={layers!r})"
    return (
        "naming the layers to treat, of which there is none here: build the model of "
        f"{', '.join(SUPPORTED)}, or of products with matrices (x @ W), and pass it as it was "
        "before torch.jit, torch.export or a quantizer"
    )
