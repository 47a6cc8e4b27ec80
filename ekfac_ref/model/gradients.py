r"""One gradient per sample and per column: ``vmap(grad(functional_call))``.

G_nc is the gradient of <f_n, s_nc> with respect to [W | b], s_nc held constant. This is the
definition; ``taps.py`` is the fast way to the same numbers, without ever forming G.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap

from ekfac_ref.model.forward import forward_one, in_algebra_dtype, with_parameters
from ekfac_ref.model.refusals.causes import batchable
from ekfac_ref.model.refusals.weighted import Seen, of_gradients
from ekfac_ref.model.refusals.wiring import check_wiring
from ekfac_ref.model.rewritten import Rewriting
from ekfac_ref.model.session import Form, Session
from ekfac_ref.question.batches import Batch

Gradients = dict[str, Float[Tensor, "N C d_out d_in"]]


def gradients(session: Session, budget: int) -> Iterator[Gradients]:
    """The G_nc of every layer, run after run of consecutive samples, in the order of the data.

    A run is as long as ``budget`` bytes allow. Rows of a grouped layer follow one another group by
    group. No factor of N. Checked by autograd (``refusals/wiring.py``).
    """
    parameters = [
        p for layer in session.layers for p in (layer.weight, layer.bias) if p is not None
    ]
    numbers = sum(parameter.numel() for parameter in parameters)
    for batch, form in session.batches():
        size = 2 * numbers * form.columns * parameters[0].itemsize
        for chunk in batch.chunks(size, budget):
            seen, G = _see(session, form, chunk)
            check_wiring(session, chunk, seen, _see)
            yield G


def _see(session: Session, form: Form, batch: Batch) -> tuple[Seen, Gradients]:
    values: dict[str, Tensor] = dict(session.model.named_parameters())
    parameters = {name: values[name] for layer in session.layers for name in layer.parameters}

    def output(values: dict[str, Tensor], inputs: Any) -> Tensor:
        return forward_one(with_parameters(session.model, values), inputs)

    def loss(values: dict[str, Tensor], inputs: Any, s: Tensor) -> Tensor:
        return (output(values, inputs) * s).sum()

    def matrices(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {layer.name: layer.to_matrix(tensors) for layer in session.layers}

    per_column = vmap(grad(loss), in_dims=(None, None, 0))
    with batchable(), Rewriting():
        f = vmap(output, in_dims=(None, 0))(parameters, batch.inputs)
        S = session.columns(f, batch)
        G = vmap(per_column, in_dims=(None, 0, 0))(parameters, batch.inputs, S)
    by_layer = {name: in_algebra_dtype(G_l) for name, G_l in vmap(vmap(matrices))(G).items()}
    return Seen(S, {name: partial(of_gradients, G_l) for name, G_l in by_layer.items()}), by_layer
