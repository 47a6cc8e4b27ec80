"""Two optimizers with one face: EKFAC and KFAC."""

from typing import final

from ekfac_ref.optim.optimizer import PreconditionedMomentum
from ekfac_ref.optim.preconditioners import EKFACPreconditioner, KFACPreconditioner


@final
class EKFAC(PreconditionedMomentum):
    """Steps along (scale E + damping I)^-1 g, E the EKFAC matrix that ``update`` keeps up.

    Args:
        model: whose parameters move.
        likelihood: a Likelihood or a torch loss module; with ``fisher``, ``sharing``, ``layers``,
            ``mask``, ``output``, ``decay`` and ``recompute_every`` as in ``EKFACPreconditioner``.
            There it says what happens to parameters outside of the layers, too.
        lr: learning rate. What it and the next four are by default trains small networks on
            digits and a small regression; ``docs/choosing.md`` says how to choose.
        damping: in units of the loss's own operator; like the eigenvalues that it is added to.
        momentum: of the velocity; 0 for none.
        weight_decay: theta shrinks by lr weight_decay in each step.
        kl_clip: the largest KL divergence of one step, in nats per sample; None for no limit.
        groups: ``[{"params": [...], "lr": ...}, ...]``, each with its own lr, momentum,
            weight_decay and damping where given, and made of whole layers. None is one group of
            all trainable parameters. What is in no group stays as it is.

    Source: George et al. 2018 (1806.03884).
    """

    kind = EKFACPreconditioner


@final
class KFAC(PreconditionedMomentum):
    """Steps along (scale B (x) A + damping I)^-1 g, B (x) A KFAC's matrix.

    All arguments are those of ``EKFAC``. Source: Martens & Grosse 2015 (1503.05671).
    """

    kind = KFACPreconditioner
