"""What a model does to batches of one form, which need not be found out again."""

from dataclasses import dataclass

import torch

from ekfac_ref.model.batched.sample_axis import SampleAxes
from ekfac_ref.model.copies.replica import Replica


@dataclass(frozen=True, eq=False)
class Form:
    """What the model does to every batch of one form.

    Attributes:
        axes: {layer: those of each of its uses, on one sample}; see ``recorder.Use``.
        roundoff: of the coarsest dtype that the forward rounds to.
        columns: C.
        compared: how many different samples were compared together and apart.
        layout: {layer: how each of its uses is read in batches of several samples}; None where
            nobody asked, or none was proved.
    """

    axes: dict[str, list[torch.Size]]
    roundoff: float
    columns: int
    compared: int
    layout: SampleAxes | None


class Learned:
    """What sessions find out about a model's forms of batches, and need not find out again.

    For as long as the model is the same but for its parameters and buffers. A copy, or what is
    unpickled, has it all to learn.

    Attributes:
        forms: {form of a batch: what the model does to it}.
        used: the names of layers that some batch uses.
        beyond_vmap: whether ``vmap`` could not run the forward.
        opened: a private copy that follows the model.
    """

    def __init__(self) -> None:
        self.forms: dict[object, Form] = {}
        self.used: set[str] = set()
        self.beyond_vmap = False
        self.opened: Replica | None = None

    def __reduce__(self) -> tuple[type["Learned"], tuple[()]]:
        return Learned, ()
