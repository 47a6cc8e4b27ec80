"""One record that everything is asked about: a model, its data, and what "Fisher" means there."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ekfac_ref.errors import ProblemError
from ekfac_ref.question.columns import Empirical, Exact, Fisher, Sampled
from ekfac_ref.question.likelihoods import Likelihood
from ekfac_ref.question.sharing import Expand, Reduce, Sharing

Inputs = Tensor | tuple[Any, ...] | Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Problem:
    """What to compute the curvature of. Nothing in it is ever changed.

    Attributes:
        model: any module without coupling between samples, in the mode (``eval``) it is to be
            judged in. It maps one batch of inputs to one tensor of outputs, axis 0 = samples; see
            ``output``. What ``torch.compile`` made of it or of its parts is computed as it is
            written.
        batches: a collection of ``(inputs, targets)``, iterated once for each pass: a list, a
            ``DataLoader``, any object that can be iterated again. Inputs are a tensor, a tuple
            (``model(*inputs)``) or a mapping, a tokenizer's too (``model(**inputs)``). Tensors are
            cut into samples along axis 0; None, numbers, booleans and texts beside them are passed
            on as they are. Batches may be uneven. Targets are those of the outputs, position by
            position: where a language model is to predict the next token, they are the labels one
            to the left, ``torch.nn.functional.pad(labels[:, 1:], (0, 1), value=-100)``.
        likelihood: Gaussian, Categorical, Bernoulli or Poisson; ``likelihood_of(loss)`` finds the
            one behind a torch loss module.
        fisher: ``Exact()``, ``Sampled(draws, seed)`` or ``Empirical()``.
        sharing: ``Expand()`` or ``Reduce()``: KFAC's treatment of shared weights.
        layers: names of the modules to treat, as in ``model.named_modules()`` (with
            ``_orig_mod`` in them where a module is compiled), or as ``layers_of`` has them
            (``"self_attn.q_proj"``, or a matrix without a module, ``"experts[2]"``). The default,
            None, stands for all of them and insists, for KFAC and EKFAC, that they cover every
            trainable parameter. For gradients and the exact Fisher, a trainable parameter can be
            named, too.
        mask: None, or a function from a batch's inputs to booleans ``[N, *positions]`` that tells
            which positions count, or to None for a batch of which all do. It concerns the layers
            that have positions; where a sample is one single position, it counts. Padding counts,
            unless it is left out: ``lambda inputs: inputs["attention_mask"].bool()``. A label that
            is ignored (-100) leaves out a loss term and no position: others see the token there.
        output: from what the model returns to the one tensor of outputs. The default, None, takes
            a tensor as it is; of a mapping (Hugging Face's ModelOutput), its ``logits``, or the
            only tensor in it.
    """

    model: nn.Module
    batches: Iterable[tuple[Inputs, Tensor]]
    likelihood: Likelihood
    fisher: Fisher = field(default_factory=Exact)
    sharing: Sharing = field(default_factory=Expand)
    layers: tuple[str, ...] | None = None
    mask: Callable[[Any], Tensor | None] | None = None
    output: Callable[[Any], Tensor] | None = None

    def __post_init__(self) -> None:
        _check_type("model", self.model, nn.Module, "a torch.nn.Module")
        _check_type("fisher", self.fisher, (Exact, Sampled, Empirical), "Exact(), Sampled() ...")
        _check_type("sharing", self.sharing, (Expand, Reduce), "Expand() or Reduce()")
        if not hasattr(self.likelihood, "square_root") or isinstance(self.likelihood, type):
            raise ProblemError(
                f"likelihood: {self.likelihood!r} is not a likelihood; pass Gaussian(), "
                "Categorical(), Bernoulli(), Poisson(), or likelihood_of(torch_loss)."
            )
        if isinstance(self.layers, str):
            raise ProblemError(
                f"layers: {self.layers!r} is one string; pass a tuple of names, ({self.layers!r},)."
            )
        if self.layers is not None and not isinstance(self.layers, Collection):
            raise ProblemError(
                f"layers: {self.layers!r} is of type {type(self.layers).__name__}; pass a tuple of "
                "names, as in model.named_modules(), or None for all of them."
            )
        if self.mask is not None and not callable(self.mask):
            raise ProblemError(
                f"mask: a {type(self.mask).__name__} cannot follow the batches; pass a function "
                "from a batch's inputs to booleans [N, *positions]."
            )
        if self.output is not None and not callable(self.output):
            raise ProblemError(
                f"output: a {type(self.output).__name__} picks no tensor; pass a function of what "
                "the model returns: lambda o: o.logits, or lambda o: o[0]."
            )
        if isinstance(self.batches, Dataset) and not isinstance(self.batches, Iterable):
            raise ProblemError(
                f"batches: a {type(self.batches).__name__} has samples, and no batches; pass "
                "torch.utils.data.DataLoader(dataset, batch_size=...)."
            )
        if isinstance(self.batches, Iterator) or not isinstance(self.batches, Iterable):
            raise ProblemError(
                f"batches: {type(self.batches).__name__} cannot be iterated again and again, and "
                "EKFAC reads the data twice; pass a list, a DataLoader, or list(batches)."
            )

    @property
    def dtype(self) -> torch.dtype:
        """Of the model, float32 or bfloat16 say; the data has to be in it too."""
        return dtype_of(self.model)


def dtype_of(model: nn.Module) -> torch.dtype:
    """Of the first real parameter in which one computes: numbers of eight bits are only stored."""
    real = (p.dtype for p in model.parameters() if p.is_floating_point() and p.itemsize > 1)
    return next(real, torch.float32)


def _check_type(name: str, value: object, kind: type | tuple[type, ...], advice: str) -> None:
    if not isinstance(value, kind) or isinstance(value, type):
        raise ProblemError(f"{name}: {value!r} is of type {type(value).__name__}; pass {advice}.")
