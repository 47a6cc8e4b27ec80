"""The problem's data as a stream of checked batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.problem import Problem

# Bytes for one chunk of samples, unless one sample alone takes more.
CHUNK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Batch:
    """Some consecutive samples.

    Attributes:
        inputs: a tensor, tuple or dict of tensors, axis 0 = samples.
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
        """Dtype and shape of one sample's inputs and mask."""
        tensors = (x for x in tree_leaves((self.inputs, self.mask)) if x is not None)
        return tuple((x.dtype, x.shape[1:]) for x in tensors)

    def samples(self, start: int, stop: int) -> "Batch":
        """Samples start to stop - 1 of this batch."""
        return Batch(
            tree_map(lambda x: x[start:stop], self.inputs),
            self.targets[start:stop],
            None if self.mask is None else self.mask[start:stop],
            self.first + start,
        )

    def chosen(self, numbers: list[int]) -> "Batch":
        """Some samples of this batch; ``first`` is the batch's own."""
        return Batch(
            tree_map(lambda x: x[numbers], self.inputs),
            self.targets[numbers],
            None if self.mask is None else self.mask[numbers],
            self.first,
        )

    def chunks(self, bytes_per_sample: int, budget: int) -> Iterator["Batch"]:
        """Pieces of the batch that need at most ``budget`` bytes, or hold one sample, each."""
        size = max(1, budget // max(1, bytes_per_sample))
        for start in range(0, self.size, size):
            yield self.samples(start, min(start + size, self.size))


def read(problem: Problem) -> Iterator[Batch]:
    """One pass over the data."""
    first = 0
    for item in problem.batches:
        batch = _checked(problem, item, first)
        first += batch.size
        yield batch
    if first == 0:
        raise ProblemError(
            "batches: there are none; pass at least one (inputs, targets). If an earlier pass has "
            "used them up, pass a list: list(batches)."
        )


def _checked(problem: Problem, item: Any, first: int) -> Batch:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise ProblemError(
            f"batches: each is to be a pair (inputs, targets), but one is a {type(item).__name__}"
            f"{f' of {len(item)}' if isinstance(item, (tuple, list)) else ''}; several inputs go "
            "into one tuple or dict, one batch into a list: [(inputs, targets)]."
        )
    inputs, targets = item
    if isinstance(inputs, list):
        inputs = tuple(inputs)
    tensors = [*_leaves(inputs), targets]
    for x in tensors:
        if way_out := _no_plain_tensor(x):
            where, way_out = ("targets", _LABELS) if x is targets else ("inputs", way_out)
            raise ProblemError(
                f"batches: inputs and targets are to be tensors, but one of the {where} at sample "
                f"{first} is a {_kind(x)}; {way_out}."
            )
    if len(tensors) == 1:
        raise ProblemError(
            f"inputs: there is no tensor among them in the batch at sample {first}; pass a tensor, "
            "a tuple or a dict of tensors."
        )
    sizes = [len(x) if x.dim() else 0 for x in tensors]
    if len(set(sizes)) != 1 or sizes[0] == 0:
        raise ProblemError(
            f"batches: axis 0 counts the samples and must be the same, and not 0, for inputs and "
            f"targets; the batch at sample {first} has {sizes}. Drop empty batches, add the axis."
        )
    for name, x in [*(("inputs", x) for x in tensors[:-1]), ("targets", targets)]:
        _check_finite_and_in_place(problem, name, x, first)
    mask = None if problem.mask is None else problem.mask(inputs)
    if mask is not None:
        mask = _checked_mask(mask, sizes[0])
        _check_finite_and_in_place(problem, "mask", mask, first)
    return Batch(inputs, targets, mask, first)


_LABELS = "pass the labels of all samples as one dense tensor (Exact() asks only for its shape)"


def _leaves(inputs: Any) -> list[Any]:
    """What has to be tensors; None, which a tree takes for nothing at all, among them."""
    return tree_leaves(inputs, is_leaf=lambda x: x is None or isinstance(x, PackedSequence))


def _kind(x: Any) -> str:
    if not isinstance(x, Tensor):
        return type(x).__name__
    return "nested tensor" if x.is_nested else f"tensor of {x.layout}, {x.dtype}"


def _no_plain_tensor(x: Any) -> str | None:
    """What to do about it, or None for a tensor that can be cut into samples."""
    if isinstance(x, Tensor):
        if x.is_nested:
            return "pad it: torch.nested.to_padded_tensor(x, 0.0), and mask the rest in the model"
        if x.layout is not torch.strided:
            return "convert it with x.to_dense()"
        return "convert it with x.dequantize()" if x.is_quantized else None
    if x is None:
        return "leave it out; where the model needs it, in a module around it that passes None"
    if isinstance(x, (str, bytes)):
        return "give the model numbers, such as the tokenizer's ids, and leave names and texts out"
    if isinstance(x, (bool, int, float, complex)):
        return (
            "where it is the same for all samples, pass it in a module around the model, or as a "
            "tensor with one entry for each; make a list of numbers a tensor with torch.as_tensor"
        )
    if isinstance(x, Mapping):
        return "convert it with dict(inputs), and leave out what is no tensor"
    if isinstance(x, PackedSequence):
        return "pad it: torch.nn.utils.rnn.pad_packed_sequence(x, batch_first=True)[0]"
    if isinstance(x, list) or hasattr(x, "__array__"):
        return "convert it with torch.as_tensor"
    return "take the tensors out of it, and pass them as a tuple or a dict"


def _check_finite_and_in_place(problem: Problem, name: str, x: Tensor, first: int) -> None:
    parameter = next(problem.model.parameters(), None)
    if parameter is not None and x.device != parameter.device:
        raise ProblemError(
            f"{name}: on {x.device}, but the model is on {parameter.device}; move them together "
            f"with .to({str(parameter.device)!r})."
        )
    if (
        x.dtype.is_floating_point
        and x.numel()
        and not all(map(isfinite, torch.aminmax(x.detach())))
    ):
        raise ProblemError(
            f"{name}: NaN or infinity in the batch at sample {first}; clean the data, curvature "
            "would be NaN everywhere."
        )


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
