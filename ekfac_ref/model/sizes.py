"""How many columns of a sample, and how many samples, fit into memory at once."""

import torch.nn.functional as F

from ekfac_ref.model.forms import Form
from ekfac_ref.model.session import FEW_COLUMNS, Session
from ekfac_ref.question.one_hot import LARGE_VOCABULARY


def runs_of_columns(session: Session, C: int, each: int, budget: int) -> list[range]:
    """Which of C columns to take together, so that those of one sample fit, of ``each`` bytes."""
    if C <= FEW_COLUMNS or not session.by_column:
        return [range(C)]
    size = max(1, min(C, budget // max(1, each)))
    return [range(start, min(start + size, C)) for start in range(0, C, size)]


def bytes_per_sample(session: Session, form: Form, C: int) -> int:
    """What the taps of a sample take, inputs and output gradients, with so many columns of all."""
    numbers = C * form.columns if session.by_column else 0  # of S
    for layer in session.layers:
        T = sum(axes.numel() for axes in form.axes[layer.name])
        d_out, d_in = layer.shape
        if layer.op is F.embedding and d_in > LARGE_VOCABULARY:
            d_in = 1
        numbers += T * (layer.groups * d_in + C * d_out)
    return 2 * numbers * session.layers[0].weight.itemsize


def bytes_per_column(session: Session, form: Form) -> int:
    """What gradients of a sample take for each column, and s_nc, a number for each output."""
    values = dict(session.model.named_parameters())
    own = {name for layer in session.layers for name in layer.parameters}
    numbers = sum(values[name].numel() for name in own) + session.by_column * form.columns
    return 2 * numbers * session.layers[0].weight.itemsize
