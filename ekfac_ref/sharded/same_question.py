"""Do all ranks ask about one model, likelihood, Fisher and sharing? Digests are compared, by name.

The sum of two models' curvatures is that of neither, and nothing in the numbers would tell.
"""

import hashlib
from collections import Counter
from dataclasses import is_dataclass

import torch
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.model.refusals.beforehand import check_model, check_modes, check_of_one_process
from ekfac_ref.question.problem import Problem
from ekfac_ref.sharded.ranks import Ranks

Digests = dict[str, str]  # {what: its digest}


def check_same_question(ranks: Ranks, problem: Problem, function: str) -> None:
    """Raise a ProblemError on all ranks if one of them differs from most, in whatever first.

    Compared are the function that is called, names, types and modes of modules, values of
    parameters and buffers, and the choices of the problem. Of ``mask`` and ``output``, which are
    functions, only whether they are given.
    """

    def parts() -> Digests:
        check_model(problem.model)
        check_modes(problem.model)
        check_of_one_process(problem.model, _SENDS)
        return {"function called": function, **_choices(problem), **_model(problem)}

    _, told = ranks.together(parts, lambda own: own)
    for what in dict.fromkeys(what for of_rank in told for what in of_rank):
        digests = [of_rank.get(what) for of_rank in told]
        usual = Counter(digests).most_common(1)[0][0]
        for rank, digest in enumerate(digests):
            if digest != usual:
                raise ProblemError(
                    f"rank {rank} of {ranks.size}: its {what} is not that of the other ranks; "
                    "call on all ranks alike, with one model, loaded from one file or sent to all, "
                    "and one likelihood, Fisher, sharing and choice of layers. Only batches differ."
                )


_SENDS = (
    "the forward of a {kind} exchanges tensors with other ranks, which have other numbers of "
    "batches and so of forwards; pass what it wraps, model.module, whole on every rank."
)


def _choices(problem: Problem) -> Digests:
    layers = problem.layers
    return {
        "likelihood": _told(problem.likelihood),
        "fisher": _told(problem.fisher),
        "sharing": _told(problem.sharing),
        "choice of layers": "all" if layers is None else repr(sorted(set(layers))),
        "mask": str(problem.mask is not None),
        "output": str(problem.output is not None),
    }


def _told(choice: object) -> str:
    """Of a record, its fields; an object of another kind may print where it is in memory."""
    return repr(choice) if is_dataclass(choice) else type(choice).__qualname__


def _model(problem: Problem) -> Digests:
    model = problem.model
    parts = {
        f"module {name!r}": f"{type(module).__qualname__} {module.training}"
        for name, module in model.named_modules()
    }
    parts |= {f"parameter {name!r}": _digest(p) for name, p in model.named_parameters()}
    return parts | {f"buffer {name!r}": _digest(b) for name, b in model.named_buffers()}


def _digest(tensor: Tensor) -> str:
    """Of its values to the bit, with its dtype, shape and whether it is trainable."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    form = f"{tensor.dtype} {list(tensor.shape)} {tensor.requires_grad}"
    digest = hashlib.sha256(form.encode())
    digest.update(values.numpy().data)
    return digest.hexdigest()
