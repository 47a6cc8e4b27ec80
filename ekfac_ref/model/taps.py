r"""What goes into a layer and what comes back to its output, without hooks.

One forward pass of the whole batch as it is, and one backward pass for all columns. Which sample a
position is of is proved on a few samples (``batched/layout.py``); every batch is held to the
gradient by plain autograd (``refusals/wiring.py``), and its last sample to what it is alone. Where
either fails, with experts that get as many positions as the data says, it is run sample by sample.

Every use of a weight is a position: leading axes of a Linear, output positions of a convolution,
repeated calls of a module, other modules tied to the Parameter. No factor of N is in here.
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ekfac_ref.model.batched.comparison import run_held
from ekfac_ref.model.batched.forward_pass import ForwardPass, Misfit
from ekfac_ref.model.batched.obstacles import why_alone
from ekfac_ref.model.batched.pull_back import pull_back
from ekfac_ref.model.batched.sample_axis import SampleAxes
from ekfac_ref.model.forms import Form
from ekfac_ref.model.forward import in_algebra_dtype
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.masks import check_silent, counted_positions
from ekfac_ref.model.refusals.by_autograd import by_graph
from ekfac_ref.model.refusals.weighted import Seen, combined, of_taps
from ekfac_ref.model.refusals.wiring import check_apart, check_wiring, differing
from ekfac_ref.model.session import Session
from ekfac_ref.question.batches import Batch
from ekfac_ref.question.one_hot import OneHot


@dataclass(frozen=True)
class Tap:
    """What one layer (one group of it) saw of some samples: G_nc = sum_t g_nct a_nt^T.

    Attributes:
        inputs: a, the homogeneous 1 of the bias last; of an Embedding, by the numbers of words.
        g: gradients of <f_n, s_nc> with respect to the output.
        counted: which positions count; None means all. Where one does not, g is zero.
    """

    inputs: Float[Tensor, "N T d_in"] | OneHot
    g: Float[Tensor, "N C T d_out"]
    counted: Bool[Tensor, "N T"] | None

    @property
    def a(self) -> Float[Tensor, "N T d_in"]:
        """The inputs as rows, written out where they are words."""
        return self.inputs.dense() if isinstance(self.inputs, OneHot) else self.inputs


Taps = dict[str, tuple[Tap, ...]]  # {layer: one Tap per group}


def tap(session: Session, form: Form, batch: Batch) -> list[tuple[Batch, Taps]]:
    """The taps of every layer on one batch, whole or sample by sample. Checked by autograd."""
    samples = batch.first, batch.size
    known = samples in session.layouts
    if batch.size > 1 and not known:
        session.layouts[samples] = form.layout
    if (layout := session.layouts.get(samples)) is not None:
        if (together := _together(session, form, batch, layout)) is not None:
            return [(batch, together)]
        session.layouts[samples] = None  # of later passes too, which check nothing
    seen, apart = _apart(session, batch)
    if batch.size > 1 and not known:
        check_apart(session, batch, seen, _apart)
        if "alone" not in session.notices:
            session.notices.give("alone", why_alone(session.replica, batch))
    return apart


def _together(session: Session, form: Form, batch: Batch, layout: SampleAxes) -> Taps | None:
    """None where the layout does not fit, or what is seen by it is not what autograd says."""
    new = session.is_new(batch)
    see = partial(_see, layout=layout, axes=form.axes, held=new)
    try:
        seen, taps = see(session, batch)
        return None if new and differing(session, batch, seen, see) else taps
    except Misfit:
        return None


def _apart(session: Session, batch: Batch) -> tuple[Seen, list[tuple[Batch, Taps]]]:
    samples = [batch.samples(n, n + 1) for n in range(batch.size)]
    found = [_alone(session, sample) for sample in samples]
    taps = [(sample, taps) for sample, (_, taps) in zip(samples, found, strict=True)]
    return Seen.of_samples([seen for seen, _ in found]), taps


def _alone(session: Session, sample: Batch) -> tuple[Seen, Taps]:
    see = partial(_see, layout=None, axes=None, held=False)
    seen, taps = see(session, sample)
    check_wiring(session, sample, seen, see)
    return seen, taps


def _see(
    session: Session,
    batch: Batch,
    layout: SampleAxes | None,
    axes: dict[str, list[torch.Size]] | None,
    held: bool,
) -> tuple[Seen, Taps]:
    """By one layout; ``axes`` are those of one sample's uses.

    ``held``: whether it is to be held to its own graph, and to its last sample alone. The
    parameters' gradient comes first, so that the graph goes while the layers' come.
    """
    exact = session.in_float64 if held and session.thorough else None
    seen = run_held(session.replica, batch, layout, exact)
    S = session.columns(seen.f.detach(), batch)
    gradients = by_graph(session.replica, seen.f, combined(S)) if held else None
    try:
        pulled = pull_back(seen.f, seen.leaves, S)
    except Exception:  # a backward written by hand may work only once
        if gradients is None:
            raise
        return _see(session, batch, layout, axes, False)
    axes = axes or seen.axes
    taps: Taps = {}
    for layer in session.layers:
        # What the forward gave a layer goes as soon as it is read.
        g = [pulled.pop(0) for _ in seen.uses[layer.name]]
        taps[layer.name] = (
            _by_group(layer, seen, g, axes[layer.name], batch.mask)
            if g
            else _no_positions(layer, S)
        )
        seen.forget(layer.name)
    weighted = {name: partial(of_taps, [(t.inputs, t.g) for t in ts]) for name, ts in taps.items()}
    return Seen(S, weighted, seen.roundoff, gradients), taps


def _by_group(
    layer: Layer, seen: ForwardPass, g: list[Tensor], axes: list[torch.Size], mask: Tensor | None
) -> tuple[Tap, ...]:
    """All uses of a layer side by side along T, its groups apart."""
    name, uses = layer.name, range(len(g))
    a_ntgi = _side_by_side([seen.inputs(name, k) for k in uses], 1)
    g_ncto = _side_by_side([in_algebra_dtype(seen.gradients(name, k, g[k])) for k in uses], 2)
    g_nctgo = g_ncto.unflatten(-1, (layer.groups, -1))
    counted = counted_positions(layer, axes, mask)
    if counted is not None:
        check_silent(layer, g_ncto, counted)
    if not a_ntgi.is_floating_point():
        words = OneHot(a_ntgi[:, :, 0, 0], layer.shape[1], g_ncto.dtype)
        return (Tap(words, g_ncto, counted),)
    a_ntgi = in_algebra_dtype(a_ntgi)
    return tuple(Tap(a_ntgi[:, :, k], g_nctgo[:, :, :, k], counted) for k in range(layer.groups))


def _no_positions(layer: Layer, S: Tensor) -> tuple[Tap, ...]:
    """Of an expert that none of these samples goes to."""
    (N, C), (d_out, d_in) = S.shape[:2], layer.shape
    weight = in_algebra_dtype(layer.weight)
    a, g = weight.new_zeros(N, 0, d_in), weight.new_zeros(N, C, 0, d_out // layer.groups)
    if layer.op is F.embedding:
        return (Tap(OneHot(a.new_zeros(N, 0).long(), d_in, a.dtype), g, None),)
    return (Tap(a, g, None),) * layer.groups


def _side_by_side(tensors: list[Tensor], axis: int) -> Tensor:
    """``torch.cat``, which would copy even a single tensor."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, axis)
