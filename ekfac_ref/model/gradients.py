r"""One gradient per sample and per column: ``vmap(grad(functional_call))``.

G_nc is the gradient of <f_n, s_nc> with respect to [W | b], s_nc held constant. This is the
definition; ``taps.py`` is the fast way to the same numbers, without ever forming G. What vmap
cannot run (a forward that looks at values) is run sample by sample, by plain autograd.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap
from torch.utils._pytree import tree_map

from ekfac_ref.model.batched.pull_back import pull_back
from ekfac_ref.model.forward import call, forward_one, in_algebra_dtype, with_parameters
from ekfac_ref.model.refusals.causes import NotBatchable, batchable, explained
from ekfac_ref.model.refusals.weighted import Seen, of_gradients
from ekfac_ref.model.refusals.wiring import check_wiring
from ekfac_ref.model.rewritten import Rewriting
from ekfac_ref.model.session import Session
from ekfac_ref.model.sizes import bytes_per_column, runs_of_columns
from ekfac_ref.question.batches import Batch

Gradients = dict[str, Float[Tensor, "N C d_out d_in"]]


def gradients(session: Session, budget: int) -> Iterator[Gradients]:
    """The G_nc of every layer, run after run of consecutive samples, in the order of the data.

    A run is as long as ``budget`` bytes allow. Rows of a grouped layer follow one another group by
    group. No factor of N. Checked by autograd (``refusals/wiring.py``).
    """
    for batch, form in session.batches():
        for chunk in batch.chunks(bytes_per_column(session, form) * form.columns, budget):
            yield _checked(session, chunk)


def gradients_in_runs(session: Session, budget: int) -> Iterator[tuple[int, Gradients]]:
    """How many samples are new, and gradients, of some columns at a time where those of one sample
    need more than ``budget`` bytes; none is new in a run of further columns.
    """
    for batch, form in session.batches():
        each = bytes_per_column(session, form)
        runs = runs_of_columns(session, form.columns, each, budget)
        for chunk in batch.chunks(each * len(runs[0]), budget):
            for some in runs:
                own = session if len(runs) == 1 else session.of_columns(some)
                yield (chunk.size if some.start == 0 else 0), _checked(own, chunk)


def _checked(session: Session, batch: Batch) -> Gradients:
    seen, G = _see(session, batch)
    check_wiring(session, batch, seen, _see)
    return G


def _see(session: Session, batch: Batch) -> tuple[Seen, Gradients]:
    try:
        S, gradients = (_one_by_one if session.learned.beyond_vmap else _by_vmap)(session, batch)
    except NotBatchable as error:
        S, gradients = _one_by_one(session, batch)
        session.learned.beyond_vmap = True
        session.notices.give(
            "alone",
            f"model: torch.vmap cannot run all samples at once: {error}. They were run one after "
            "another: the same numbers, by one forward and C backward passes for each.",
        )
    by_layer = {}
    for layer in session.layers:
        own = {name: gradients[name] for name in layer.parameters}  # vmap takes all it is given
        by_layer[layer.name] = in_algebra_dtype(vmap(vmap(layer.to_matrix))(own))
    weighted = {name: partial(of_gradients, G_l) for name, G_l in by_layer.items()}
    return Seen(S, weighted, session.form(batch).roundoff), by_layer


def _by_vmap(session: Session, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """S, and for every parameter of a layer [N, C, *shape]. Raises NotBatchable."""
    parameters = {name: p.detach() for name, p in _parameters(session).items()}

    def output(values: dict[str, Tensor], inputs: Any) -> Tensor:
        return forward_one(with_parameters(session.model, values), inputs)

    def loss(values: dict[str, Tensor], inputs: Any, s: Tensor) -> Tensor:
        return (output(values, inputs) * s).sum()

    per_column = vmap(grad(loss), in_dims=(None, None, 0))
    along = tree_map(lambda x: 0 if isinstance(x, Tensor) else None, batch.inputs)
    with batchable(), Rewriting():
        f = vmap(output, in_dims=(None, along))(parameters, batch.inputs)
        S = session.columns(f, batch)
        G = vmap(per_column, in_dims=(None, along, 0))(parameters, batch.inputs, S)
        if any(g.shape[:2] != S.shape[:2] for g in G.values()):
            raise RuntimeError("torch batches the gradient of an op wrongly")
        return S, G


def _one_by_one(session: Session, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """What ``_by_vmap`` returns, by a loop over samples and plain autograd."""
    parameters = _parameters(session)
    columns, gradients = [], []
    for n in range(batch.size):
        sample = batch.samples(n, n + 1)
        with torch.enable_grad(), explained():
            f = call(session.model, sample.inputs)
            columns.append(session.columns(f.detach(), sample))
            gradients.append(pull_back(f, list(parameters.values()), columns[-1]))
    by_parameter = zip(*gradients, strict=True)
    G = {name: torch.stack(of) for name, of in zip(parameters, by_parameter, strict=True)}
    return torch.cat(columns), G


def _parameters(session: Session) -> dict[str, Tensor]:
    values = dict(session.model.named_parameters())
    return {name: values[name] for layer in session.layers for name in layer.parameters}
