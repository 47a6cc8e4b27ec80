"""The problem's data as a stream of checked batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from ekfac_ref.errors import ProblemError, first_line, of_memory
from ekfac_ref.question.finite import all_finite
from ekfac_ref.question.inputs import (
    cuttable,
    form_of,
    misfits,
    no_plain_tensor,
    on_tensors,
    tensors_of,
)
from ekfac_ref.question.problem import Problem

# Bytes for one chunk of samples, unless one sample alone takes more.
CHUNK_BYTES = 256 * 2**20
COMPARED = 3  # samples that are compared together and apart
IN_TURN = 8  # samples, before many at a time are looked through for one that differs


class NoBatches(ProblemError):
    """There is no data at all; where others have some, a part of it may be empty."""

    def __init__(self) -> None:
        super().__init__(
            "batches: there are none; pass at least one (inputs, targets). If an earlier pass has "
            "used them up, pass a list: list(batches)."
        )


@dataclass(frozen=True)
class Batch:
    """Some consecutive samples.

    Attributes:
        inputs: a tensor, or a tuple or dict of tensors, axis 0 = samples, and of constants.
        targets: axis 0 = samples.
        mask: which positions count; None means all.
        first: number of the first sample in the data.
    """

    inputs: Any
    targets: Shaped[Tensor, "N *labels"]
    mask: Bool[Tensor, "N *positions"] | None
    first: int

    @property
    def size(self) -> int:
        """N, the number of samples in this batch."""
        return len(self.targets)

    @property
    def form(self) -> tuple[object, ...]:
        """What tells batches apart that a model may treat differently; see ``form_of``."""
        return form_of((self.inputs, self.mask))

    def samples(self, start: int, stop: int) -> "Batch":
        """Samples start to stop - 1 of this batch."""
        return Batch(
            on_tensors(lambda x: x[start:stop], self.inputs),
            self.targets[start:stop],
            None if self.mask is None else self.mask[start:stop],
            self.first + start,
        )

    def chosen(self, numbers: list[int]) -> "Batch":
        """Some samples of this batch; ``first`` is the batch's own."""
        return Batch(
            on_tensors(lambda x: x[numbers], self.inputs),
            self.targets[numbers],
            None if self.mask is None else self.mask[numbers],
            self.first,
        )

    def few(self) -> tuple["Batch", int]:
        """Three samples with different inputs and their number, or what there is.

        Where all are equal, which proves nothing, two of them, and the number is 1.
        """
        found, tensors = [0], tensors_of(self.inputs)
        while len(found) < COMPARED and (new := _differing(tensors, found, self.size)) is not None:
            found.append(new)
        alike = len(found) == 1 < self.size
        return self.chosen([0, 1] if alike else found), len(found)

    def chunks(self, bytes_per_sample: int, budget: int) -> Iterator["Batch"]:
        """Pieces of the batch that need at most ``budget`` bytes, or hold one sample, each."""
        size = max(1, budget // max(1, bytes_per_sample))
        for start in range(0, self.size, size):
            yield self.samples(start, min(start + size, self.size))


def _differing(tensors: list[Tensor], found: list[int], size: int) -> int | None:
    """The first sample behind the last found that is none of them in some tensor."""
    start = found[-1] + 1
    for n in range(start, min(size, IN_TURN)):
        if all(any(not torch.equal(x[n], x[m]) for x in tensors) for m in found):
            return n
    start = max(start, IN_TURN)
    while start < size:
        stop = 4 * start  # no copy of all samples where the next is a new one
        of_each = [
            torch.stack([(x[start:stop] != x[m]).unsqueeze(-1).flatten(1).any(1) for m in found])
            for x in tensors
        ]
        apart = torch.stack([of_one.cpu() for of_one in of_each]).any(0).all(0).nonzero()
        if len(apart):
            return start + int(apart[0])
        start = stop
    return None


def read(problem: Problem) -> Iterator[Batch]:
    """One pass over the data."""
    first = 0
    for item in problem.batches:
        batch = _checked(problem, item, first)
        first += batch.size
        yield batch
    if first == 0:
        raise NoBatches


def _checked(problem: Problem, item: Any, first: int) -> Batch:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise ProblemError(
            f"batches: each is to be a pair (inputs, targets), but one is a {type(item).__name__}"
            f"{f' of {len(item)}' if isinstance(item, (tuple, list)) else ''}; several inputs go "
            "into one tuple or dict, one batch into a list: [(inputs, targets)]."
        )
    inputs, targets = item
    inputs = cuttable(inputs)
    odd = [("inputs", x, way_out) for x, way_out in misfits(inputs)]
    if no_plain_tensor(targets):
        odd.append(("targets", targets, _LABELS))
    for where, x, way_out in odd:
        raise ProblemError(
            f"batches: inputs and targets are to be tensors, but one of the {where} at sample "
            f"{first} is a {_kind(x)}; {way_out}."
        )
    tensors = [*tensors_of(inputs), targets]
    if len(tensors) == 1:
        raise ProblemError(
            f"inputs: there is no tensor among them in the batch at sample {first}; pass a tensor, "
            "a tuple or a dict of tensors, made of numbers with torch.as_tensor."
        )
    sizes = [len(x) if x.dim() else 0 for x in tensors]
    if len(set(sizes)) != 1 or sizes[0] == 0:
        raise ProblemError(
            f"batches: axis 0 counts the samples and must be the same, and not 0, for inputs and "
            f"targets; the batch at sample {first} has {sizes}. Drop empty batches, add the axis, "
            "and expand a tensor that all samples share, one for each."
        )
    for name, x in [*(("inputs", x) for x in tensors[:-1]), ("targets", targets)]:
        _check_finite_and_in_place(problem, name, x, first)
    mask = _mask(problem, inputs)
    if mask is not None:
        mask = _checked_mask(mask, sizes[0])
        _check_finite_and_in_place(problem, "mask", mask, first)
    return Batch(inputs, targets, mask, first)


_LABELS = "pass the labels of all samples as one dense tensor (Exact() asks only for its shape)"


def _kind(x: Any) -> str:
    if not isinstance(x, Tensor):
        return type(x).__name__
    return "nested tensor" if x.is_nested else f"tensor of {x.layout}, {x.dtype}"


def _check_finite_and_in_place(problem: Problem, name: str, x: Tensor, first: int) -> None:
    parameter = next(problem.model.parameters(), None)
    if parameter is not None and x.device != parameter.device:
        raise ProblemError(
            f"{name}: on {x.device}, but the model is on {parameter.device}; move them together "
            f"with .to({str(parameter.device)!r})."
        )
    if not all_finite(x):
        raise ProblemError(
            f"{name}: NaN or infinity in the batch at sample {first}; clean the data, curvature "
            "would be NaN everywhere."
        )


# What indexing and operations raise; an OSError, say, is the mask's own affair.
_OF_INPUTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def _mask(problem: Problem, inputs: Any) -> Any:
    try:
        return None if problem.mask is None else problem.mask(inputs)
    except _OF_INPUTS as error:
        if of_memory(error):
            raise
        raise ProblemError(
            f"mask: it failed on the inputs of a batch, a {type(inputs).__name__} "
            f"({first_line(error)}); write it for a tensor, a tuple or a dict, as the inputs are: "
            "lambda inputs: inputs['attention_mask'].bool(), for a tokenizer's."
        ) from error


def _checked_mask(mask: Any, size: int) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape[:1] != (size,):
        got = (
            f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        )
        raise ProblemError(
            f"mask: it is to return booleans [N, *positions] with N = {size}, not {got}; convert "
            "it with .bool(), True where the position counts, or return None where all do."
        )
    return mask
