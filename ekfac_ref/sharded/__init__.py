"""KFAC and EKFAC of data that several processes hold, each a part of it.

.. code-block:: python

    from ekfac_ref import sharded

    torch.distributed.init_process_group("gloo")  # as torchrun has set it up
    blocks = sharded.ekfac(ek.Problem(model, own_batches, ek.Categorical()))

Every rank calls with the same model and its own batches, which may be none, and gets what one
process gets of all batches. docs/shards.md says what is sent, and how far that carries.
"""

from ekfac_ref.sharded.blocks_of_shards import ekfac_of_shards as ekfac
from ekfac_ref.sharded.blocks_of_shards import kfac_of_shards as kfac
from ekfac_ref.sharded.scale import loss_scale_of_shards as loss_scale

__all__ = ["ekfac", "kfac", "loss_scale"]
