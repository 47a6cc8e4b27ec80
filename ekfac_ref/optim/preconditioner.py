"""What EKFAC's and KFAC's preconditioner have in common: all but the operator."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.errors import ProblemError, enough_memory
from ekfac_ref.losses import likelihood_of, loss_scale
from ekfac_ref.matrix.lookup import LookupKronecker
from ekfac_ref.matrix.operators import BlockDiagonal, Kronecker
from ekfac_ref.model.forms import Learned
from ekfac_ref.model.layers import Layer, find_layers
from ekfac_ref.model.layers_of import bare_among, names_of
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.model.refusals.beforehand import (
    check_of_one_process,
    check_parameters,
    other_in_train_mode,
)
from ekfac_ref.optim.curvature import BlockState, Curvature, InBasis
from ekfac_ref.optim.directions import check_all_given, check_gradients, directions, is_number
from ekfac_ref.optim.reading import Chunks, Key, chunks_of, in_words_of
from ekfac_ref.optim.running import RunningMean
from ekfac_ref.optim.stored import restored, stored
from ekfac_ref.optim.sums import check_eigenvalues, running_factors
from ekfac_ref.question.columns import Exact, Fisher, Sampled
from ekfac_ref.question.likelihoods import Likelihood
from ekfac_ref.question.problem import Inputs, Problem
from ekfac_ref.question.sharing import Expand, Sharing


class Preconditioner(ABC):
    """The curvature of a model, kept up batch by batch, and its inverse applied to gradients.

    Nothing of the model is ever changed by ``update``: no hooks, no ``.grad``, no buffers, no
    random numbers.

    Args:
        model: as in ``Problem``, but in train mode as well: the curvature is that of a copy in
            eval mode, in which dropout drops nothing and BatchNorm takes its running statistics.
            The gradients stay those of the caller's own forward, whatever its mode. A warning
            names the modules of which that makes two functions.
        likelihood: a Likelihood, for a loss that is its mean over samples; or a torch loss module,
            whose own operator then counts, with its own reduction (``losses.loss_scale`` of the
            last batch).
        fisher: ``Exact()``, ``Sampled(draws, seed)`` (labels are a function of the seed, the
            number of the update, the sample and the draw) or ``Empirical()``.
        sharing: ``Expand()`` or ``Reduce()``.
        layers: names of the modules to treat. None stands for all of them and insists that they
            cover every trainable parameter. Naming layers is how one says that the parameters of
            all others keep their plain gradient. Only data tells that a forward multiplies with
            matrices of no module (``x @ W``): for these, ``layers_of(problem)`` instead of names.
        mask: None, or a function from inputs to booleans: which positions count; or to None, for a
            batch of which all do.
        output: None, or a function from what the model returns to its one tensor of outputs.
        decay: beta in [0, 1] of the running means (``running.py``): 0 is each batch by itself
            (George et al. 2018, Algorithm 1), 1 the mean over everything seen.
        recompute_every: eigenbases are taken at the first update and at every so many updates.
    """

    def __init__(
        self,
        model: nn.Module,
        likelihood: Likelihood | nn.Module,
        *,
        fisher: Fisher = Exact(),  # noqa: B008  # a frozen value
        sharing: Sharing = Expand(),  # noqa: B008
        layers: tuple[str | Layer, ...] | None = None,
        mask: Callable[[Any], Tensor | None] | None = None,
        output: Callable[[Any], Tensor] | None = None,
        decay: float = 0.95,
        recompute_every: int = 10,
    ) -> None:
        self._loss = likelihood if isinstance(likelihood, nn.Module) else None
        unit = likelihood_of(likelihood) if isinstance(likelihood, nn.Module) else likelihood
        names = names_of(layers)
        self._question = Problem(model, [], unit, fisher, sharing, names, mask, output)
        if not is_number(decay) or not 0 <= decay <= 1:
            raise ProblemError(
                f"decay: {decay!r} is not in [0, 1]; choose 0 for each batch by itself, 1 for the "
                "mean over everything seen."
            )
        if not isinstance(recompute_every, int) or recompute_every < 1:
            raise ProblemError(
                f"recompute_every: {recompute_every!r} is not a number of updates; choose 1 to "
                "take new eigenbases at every update."
            )
        self._decay = float(decay)
        self._recompute_every = recompute_every
        check_parameters(model)
        check_of_one_process(model, _ITS_OWN)
        _say_which_mode(model)
        with in_words_of(self):
            self._layers = find_layers(model, names, None, bare_among(layers or ()))
        self._curvature = Curvature()
        self._learned = Learned()

    @abstractmethod
    def _new_basis(self, old: InBasis | None, A: RunningMean, B: RunningMean) -> InBasis:
        """The operator at a refresh, from the one before and the running factors."""

    @abstractmethod
    def _with_batch(
        self, operators: dict[Key, InBasis], chunks: Chunks, count: float
    ) -> dict[Key, InBasis]:
        """The operators with the batch, in their bases; ``count`` samples went into them so far."""

    def update(self, inputs: Inputs, targets: Tensor) -> None:
        """Take in one batch: its factors; new eigenbases, if due; then its eigenvalues.

        Raises what the reference raises for a problem with this one batch; all is then as before.
        """
        before = self._curvature
        self.check_model()
        # An expert that this batch leaves out has been used, also where that is loaded or a copy.
        self._learned.used |= {name for name, _ in before.blocks}
        with in_words_of(self), undisturbed(), enough_memory():
            problem = self._problem(inputs, targets)
            chunks = chunks_of(problem, self._layers, self._learned)
            factors = running_factors(before.blocks, chunks, problem.sharing, self._decay)
            operators = {key: block.operator for key, block in before.blocks.items()}
            if before.updates % self._recompute_every == 0:
                operators = {
                    key: self._new_basis(operators.get(key), A, B)
                    for key, (A, B) in factors.items()
                }
            count = self._decay * next((b.B.count for b in before.blocks.values()), 0.0)
            operators = self._with_batch(operators, chunks, count)
            check_eigenvalues(operators)
            scale = 1.0 if self._loss is None else loss_scale(self._loss, problem)
        blocks = {key: BlockState(A, B, operators[key]) for key, (A, B) in factors.items()}
        self._curvature = Curvature(before.updates + 1, scale, blocks)

    def precondition(self, gradients: Mapping[str, Tensor], damping: float) -> dict[str, Tensor]:
        """(scale E + damping I)^-1 on the layers' gradients; the others' unchanged. New tensors.

        Args:
            gradients: {parameter name: gradient}, of every layer's parameters at least.
            damping: in units of the loss's own operator.
        """
        operators = self.own_operators
        self.check_model()
        parameters = dict(self.model.named_parameters())
        check_gradients(self._layers, parameters, gradients)
        check_all_given(self._layers, gradients)
        dampings = dict.fromkeys(operators, damping)
        with in_words_of(self):
            return directions(self._layers, operators, gradients, dampings)

    def precondition_(self, damping: float) -> None:
        """(scale E + damping I)^-1 on every ``.grad`` of the layers, in place.

        A layer without any ``.grad`` is left alone, and so are the parameters of no layer.
        """
        operators = self.own_operators
        self.check_model()
        parameters = dict(self.model.named_parameters())
        gradients = {n: p.grad for n, p in parameters.items() if p.grad is not None}
        if not gradients:
            raise ProblemError("gradients: no parameter has one; call loss.backward() before.")
        check_gradients(self._layers, parameters, gradients)
        dampings = dict.fromkeys(operators, damping)
        with in_words_of(self), torch.no_grad():
            new = directions(self._layers, operators, gradients, dampings)
            for name, gradient in gradients.items():
                gradient.copy_(new[name])

    def check_model(self) -> None:
        """Raise a ProblemError where the model's dtype or device is no longer the curvature's."""
        self._curvature.check_dtype(self._layers, self.model)

    @property
    def model(self) -> nn.Module:
        """The caller's own model, which no update changes."""
        return self._question.model

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers whose gradients are preconditioned."""
        return self._layers

    @property
    def updates(self) -> int:
        """How many batches were taken in."""
        return self._curvature.updates

    @property
    def scale(self) -> float:
        """From the unit likelihood's operators to the loss's own, on the last batch."""
        return self._curvature.scale

    @property
    def operators(self) -> dict[str, InBasis | BlockDiagonal]:
        """{layer: operator} of the unit likelihood, with 1/N."""
        self._check_updated()
        return self._curvature.operators()

    @property
    def own_operators(self) -> dict[str, InBasis | BlockDiagonal]:
        """{layer: operator} of the caller's loss: the unit likelihood's times ``scale``."""
        return {name: E.scaled(self.scale) for name, E in self.operators.items()}

    @property
    def factors(self) -> dict[str, Kronecker | LookupKronecker | BlockDiagonal]:
        """{layer: B (x) A}, the running factors of the unit likelihood."""
        self._check_updated()
        return self._curvature.factors()

    def state_dict(self) -> dict[str, Any]:
        """Everything that was gathered, as plain values and tensors; the settings are not in it."""
        return stored(type(self).__name__, self._layers, self._curvature)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, on a model with the same layers."""
        self._curvature = restored(type(self).__name__, self._layers, state)

    def _problem(self, inputs: Inputs, targets: Tensor) -> Problem:
        fisher = self._question.fisher
        if isinstance(fisher, Sampled):
            # The generator's key has 128 bits; the first update uses the caller's own seed.
            fisher = replace(fisher, seed=(fisher.seed + (self.updates << 64)) % 2**128)
        return replace(self._question, batches=[(inputs, targets)], fisher=fisher)

    def _check_updated(self) -> None:
        if self.updates == 0:
            raise ProblemError(
                "curvature: there is none yet; call update(inputs, targets) with a batch before."
            )


_ITS_OWN = (
    "{kind} averages gradients over processes, but each would divide them by the curvature of its "
    "own batches, and the replicas part; pass what it wraps, model.module, and to update() the "
    "same batch on all of them, that of all processes or of one."
)


def _say_which_mode(model: nn.Module) -> None:
    if names := other_in_train_mode(model):
        listed = ", ".join(map(repr, names))
        warnings.warn(
            f"model: these modules compute in train mode what they do not in eval mode: {listed}. "
            "The curvature is that of eval mode, taken on a copy; gradients are those of your own "
            "forward.",
            stacklevel=4,
        )
