r"""How far a step may go: by the KL divergence between the model before and after it.

To second order, KL(p_theta || p_(theta + Delta)) = 1/2 Delta^T F Delta, in nats per sample, F being
the Fisher of the *unit* likelihood: the loss's own scale plays no part. The layers' operators stand
in for F. A step that would exceed ``kl_clip`` is shortened as a whole:

    nu = min(1, sqrt(2 kl_clip / sum_layers Delta^T E Delta)).

Source of the rule, up to its constant: Ba et al. 2017, "Distributed second-order optimization using
Kronecker-factored approximations".
"""

from collections.abc import Mapping
from math import isfinite

import torch
from torch import Tensor

from ekfac_ref.errors import ProblemError
from ekfac_ref.matrix.operators import Operator


def shrinkage(
    operators: Mapping[str, Operator], steps: Mapping[str, Tensor], kl_clip: float
) -> float:
    """Nu, for steps {layer: Delta as [W | b]} and the unit likelihood's operators of these."""
    twice_kl = 0.0
    for name, Delta in steps.items():
        with torch.autocast(Delta.device.type, enabled=False):  # which would round
            E_Delta = operators[name].matvec(Delta)
        twice_kl += float(torch.sum(Delta * E_Delta, dtype=torch.float64))
    if not isfinite(twice_kl):
        raise ProblemError(
            f"kl_clip: the KL divergence of this step overflows ({twice_kl}); raise damping, or "
            "lower lr."
        )
    return min(1.0, (2 * kl_clip / twice_kl) ** 0.5) if twice_kl > 0 else 1.0
