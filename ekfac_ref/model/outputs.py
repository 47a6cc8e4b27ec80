"""The one tensor of outputs in whatever a model returns."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ekfac_ref.errors import ProblemError, first_line

Output = Callable[[Any], Tensor]


def return_one_tensor(model: nn.Module, output: Output | None) -> None:
    """Let every call of the model return f alone, by a hook on it.

    f is what ``output`` makes of what the model returns. Without one it is what is returned, if
    that is a tensor; in a mapping (Hugging Face's ModelOutput), the tensor named ``logits``, or the
    only one. The call raises a ProblemError for anything else.
    """

    def one_tensor(module: nn.Module, args: Any, returned: Any) -> Tensor:
        return _obvious(returned) if output is None else _chosen(output, returned)

    model.register_forward_hook(one_tensor)


def _obvious(returned: Any) -> Tensor:
    if isinstance(returned, Tensor):
        return returned
    named: dict[object, Tensor] = {}
    if isinstance(returned, Mapping):
        named = {name: x for name, x in returned.items() if isinstance(x, Tensor)}
        only = next(iter(named)) if len(named) == 1 else "logits"
        if only in named:
            return named[only]
    raise ProblemError(
        f"model: it returned a {type(returned).__name__}, {_contents(returned)}; say which one "
        f"tensor in it has the outputs: Problem(output=lambda o: {_first(returned, named)})."
    )


def _chosen(output: Output, returned: Any) -> Tensor:
    what = f"what the model returned, a {type(returned).__name__}, {_contents(returned)}"
    try:
        f = output(returned)
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ProblemError(
            f"output: it failed on {what} ({first_line(error)}); let it pick a tensor that is "
            "there, or leave it out where the model returns one tensor, or one named logits."
        ) from error
    if not isinstance(f, Tensor):
        raise ProblemError(
            f"output: it made a {type(f).__name__} of {what}; let it return one tensor, axis 0 = "
            "samples."
        )
    return f


def _contents(returned: Any) -> str:
    if isinstance(returned, Tensor):
        return f"of shape {list(returned.shape)}"
    if isinstance(returned, Mapping):
        return f"with {', '.join(map(str, returned)) or 'nothing'} in it"
    if isinstance(returned, (tuple, list)):
        return f"of {', '.join(type(x).__name__ for x in returned) or 'nothing'}"
    return "in which outputs are not looked for"


def _first(returned: Any, named: dict[object, Tensor]) -> str:
    """How to get at a tensor in it, as an example."""
    if named:
        return f"o[{next(iter(named))!r}]"
    return "o[0]" if isinstance(returned, (tuple, list)) else "..."
