"""A problem opened for computing: a private copy of its model, its layers, its checked batches."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from ekfac_ref.model.batched.comparison import together_and_apart
from ekfac_ref.model.batched.sample_axis import SampleAxes
from ekfac_ref.model.copies.dtypes import inputs_in, model_in
from ekfac_ref.model.copies.modes import ITS_OWN, Modes
from ekfac_ref.model.copies.private_copy import made_private
from ekfac_ref.model.copies.replica import Replica
from ekfac_ref.model.forms import Form, Learned
from ekfac_ref.model.layers import (
    BareWeights,
    Layer,
    Names,
    find_layers,
    find_parameters,
)
from ekfac_ref.model.masks import check_masked
from ekfac_ref.model.random_state import RandomState, generators, put_back, take, untouched
from ekfac_ref.model.recording.bare_weights import bare_weights
from ekfac_ref.model.recording.recorder import Recorder, axes_of_uses
from ekfac_ref.model.recording.uses import advised, any_uses, check_used, uses
from ekfac_ref.model.refusals.beforehand import check_model, warn_of_backward_hooks
from ekfac_ref.model.refusals.notices import Notices
from ekfac_ref.model.refusals.outputs import check_finite
from ekfac_ref.model.refusals.repeated_data import RepeatedData
from ekfac_ref.model.refusals.samples import check_samples_apart
from ekfac_ref.question.batches import Batch, read
from ekfac_ref.question.columns import Exact
from ekfac_ref.question.likelihoods import BY_COLUMN
from ekfac_ref.question.problem import Problem

FEW_COLUMNS = 1024  # of a sample; more are counted without writing S out
MANY_COLUMNS = 10_000  # of a sample; more take long enough to be said before it starts


class Session:
    """Everything the model half needs; what it learns of the model's forms it remembers.

    Args:
        problem: as the caller posed it.
        replica: a private copy of the caller's model, and its layers.
        start: the random numbers at which every pass begins, so that they all see the same data.
        learned: of the same model by sessions before; every batch's wiring is checked all the same.
        modes: in which the model is meant.

    Attributes:
        notices: what the caller was told.
        layouts: {(first, size) of a run of samples: how its uses are read, in every pass}; None for
            samples that are run one after another.
        thorough: whether the last sample of every batch is run alone, too; not where sessions
            before this one have learned of the model.
    """

    def __init__(
        self, problem: Problem, replica: Replica, start: RandomState, learned: Learned, modes: Modes
    ) -> None:
        self.problem, self.replica, self.learned = problem, replica, learned
        self.model, self.layers = replica.copy, replica.layers
        self._start, self._modes = start, modes
        self.notices, self.thorough = Notices(), not learned.forms
        self.layouts: dict[tuple[int, int], SampleAxes | None] = {}
        self._checked: set[tuple[int, int, range | None]] = set()  # (first, size), columns
        self._some: range | None = None
        self._repeated = RepeatedData()

    def batches(self) -> Iterator[tuple[Batch, Form]]:
        """One pass over the data, with what the model does to batches of each one's form.

        The model is tried on every new form of inputs, and its samples are compared together and
        apart in the first batch of that form that has two different ones. Where the first batch
        leaves layers unused, those behind are looked at before it is begun with.
        """
        put_back(self._start)
        for batch in read(self.problem):
            self._repeated.check(batch)
            known = self.learned.forms.get(batch.form)
            if known is None or known.compared < min(batch.size, 2):
                with untouched():
                    self.learned.forms[batch.form] = self._try(batch)
            if len(self.learned.used) < len(self.layers):
                self.learned.used = self._used_somewhere()
                yield from self.batches()  # from the start: not all data can be read side by side
                return
            yield batch, self.form(batch)

    def _used_somewhere(self) -> set[str]:
        """The names of all layers, or a ProblemError for one that no batch uses."""
        put_back(self._start)
        return check_used(self.model, self.layers, read(self.problem), self.learned.used)

    def form(self, batch: Batch) -> Form:
        """What the model does to batches like this one, which ``batches`` has come across."""
        return self.learned.forms[batch.form]

    def _try(self, batch: Batch) -> Form:
        found, used = self._recorded(batch)
        self.learned.used |= used
        few, distinct = batch.few()
        outputs, layout = self._compared(few)
        columns = self._count(outputs[:1], batch.samples(0, 1))
        return Form(axes_of_uses(found.uses), found.roundoff, columns, distinct, layout)

    def _compared(self, few: Batch) -> tuple[Tensor, SampleAxes | None]:
        return together_and_apart(self.replica, few, self.in_float64)

    def in_float64(self, few: Batch) -> tuple[Replica, Batch]:
        """The model and these samples."""
        inputs = inputs_in(few.inputs, torch.float64)
        model = model_in(self.copied(), torch.float64)
        exact = replace(self.problem, model=model, batches=[(inputs, few.targets)])
        return self.like(exact).replica, replace(few, inputs=inputs)

    def _recorded(self, batch: Batch) -> tuple[Recorder, set[str]]:
        """What the model does with every layer on one sample, and which ones the batch uses."""
        found, used = uses(self.model, self.layers, batch)
        check_masked(self.layers, axes_of_uses(found.uses), batch.samples(0, 1).mask)
        return found, used

    def copied(self) -> nn.Module:
        """A copy of the caller's model, in the modes that are meant."""
        return self._modes.copied(self.problem.model)

    def like(self, problem: Problem) -> "Session":
        """A session of another problem, in which what was warned of here is not said again."""
        return self._silent(open_session(problem))

    @property
    def by_column(self) -> bool:
        """Whether there is one column for each output, and each can be had alone."""
        likelihood, fisher = self.problem.likelihood, self.problem.fisher
        return isinstance(fisher, Exact) and isinstance(likelihood, BY_COLUMN)

    def of_columns(self, some: range) -> "Session":
        """This session, of some columns of Exact() only; what either learns, both know."""
        other = copy.copy(self)
        other._some = some
        return other

    def _silent(self, other: "Session") -> "Session":
        other.notices, other._some = Notices(("alone", "padding", "columns")), self._some
        other.learned.beyond_vmap = self.learned.beyond_vmap
        other.learned.used |= self.learned.used  # of few samples, which need not use every expert
        return other

    def is_new(self, batch: Batch) -> bool:
        """Whether these samples are seen for the first time, so that their wiring is checked."""
        samples = (batch.first, batch.size, self._some)
        known = samples in self._checked
        self._checked.add(samples)
        return not known

    def columns(self, f: Tensor, batch: Batch) -> Tensor:
        """S_n, [N, C, *out], for the batch's outputs f."""
        likelihood, fisher = self.problem.likelihood, self.problem.fisher
        self._check(f, batch)
        if self._some is not None:
            assert isinstance(fisher, Exact)
            assert isinstance(likelihood, BY_COLUMN)
            return fisher.some_columns(likelihood, f, batch.targets, self._some)
        return fisher.columns(likelihood, f, batch.targets, batch.first)

    def _count(self, f: Tensor, batch: Batch) -> int:
        """The number C of columns that one sample has."""
        C = f[0].numel()
        if C <= FEW_COLUMNS or not self.by_column:
            return self.columns(f, batch).shape[1]
        self._check(f, batch)
        if C > MANY_COLUMNS:
            self.notices.give(
                "columns",
                f"fisher: Exact() has one column for each of {C} outputs of a sample, which takes "
                "as many backward passes; Sampled(draws) takes as many as there are draws, and is "
                "unbiased; Empirical() takes one, and is another quantity, which knows the labels.",
            )
        return C

    def _check(self, f: Tensor, batch: Batch) -> None:
        """Raise a ProblemError for outputs or targets that no likelihood has."""
        check_finite(f, batch.first)
        self.problem.likelihood.check(f, batch.targets)


class GradientSession(Session):
    """Of gradients alone, which any parameter has, whatever the model does with it.

    A mask is of no concern: a position that it leaves out carries no gradient.
    """

    def _recorded(self, batch: Batch) -> tuple[Recorder, set[str]]:
        """That a layer is used, by whatever op."""
        return any_uses(self.model, self.layers, batch)

    def _compared(self, few: Batch) -> tuple[Tensor, None]:
        """The outputs; how layers are read, nobody asks."""
        return check_samples_apart(self.model, few, self.in_float64), None

    def like(self, problem: Problem) -> Session:
        """A session of gradients alone, for another problem; nothing is warned of again."""
        return self._silent(open_for_gradients(problem))


Kind = Callable[[Problem, Replica, RandomState, Learned, Modes], Session]
Advise = Callable[[], Names]
Find = Callable[[nn.Module, Names | None, Advise | None, BareWeights], tuple[Layer, ...]]


def open_for_gradients(problem: Problem) -> Session:
    """Open the problem for what has no factors; see ``open_session``, ``find_parameters``."""
    return open_session(problem, GradientSession, find_parameters)


def open_session(
    problem: Problem,
    kind: Kind = Session,
    find: Find = find_layers,
    learned: Learned | None = None,
    modes: Modes = ITS_OWN,
    bare: BareWeights | None = None,
) -> Session:
    """Copy the model and check what can be checked without data.

    ``kind`` makes the session of its parts: a subclass, if it has other columns. ``find`` says
    which layers there are. ``learned`` is what earlier sessions of this model and these layers
    know, and this one adds to. ``modes`` are those in which the model is meant. ``bare`` are the
    matrices of no module; None for those that the data shows.

    A session draws random numbers, if the data does; whoever opens one puts them back.
    """
    ready = type(problem.batches) in (list, tuple)  # and to go through it draws no numbers
    start = [] if ready else take(*generators(problem.batches))
    check_model(problem.model)
    learned = Learned() if learned is None else learned
    replica = learned.opened
    if replica is None or not replica.follows(problem.model):
        replica = learned.opened = _opened(problem, find, modes, bare)
    return kind(problem, replica, start, learned, modes)


def _opened(problem: Problem, find: Find, modes: Modes, known: BareWeights | None) -> Replica:
    modes.check(problem.model)
    warn_of_backward_hooks(problem.model)
    bare = bare_weights(problem, modes) if known is None else known
    # The memory that parameters share is not shared by the copy.
    find(problem.model, problem.layers, lambda: advised(problem, modes, bare), bare)
    model = made_private(modes.copied(problem.model), problem.output)
    layers = find(model, problem.layers, None, bare)
    own = {id(p) for layer in layers for p in (layer.weight, layer.bias)}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in own)
    return Replica(problem.model, model, layers)
