"""How an implementation writes down what it has found."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ekfac_ref.conformance.adapter.layouts import Bias, Layout, bias_last, in_columns, rows
from ekfac_ref.conformance.adapter.scales import Scale, unit


@dataclass(frozen=True)
class Convention:
    """What is declared of an implementation. The defaults are this package's.

    Attributes:
        eigenvectors: ``in_columns`` or ``in_rows`` of Q_B and Q_A. Their order is free, as long as
            the eigenvalues are in the same one.
        eigenvalues: ``rows`` or ``columns``, as a matrix or flat.
        vec: ``rows`` or ``columns``: which entry of [W | b] a row of a ``Matrix`` stands for.
        bias: ``bias_last``, ``bias_first`` or ``bias_behind``. Of no concern to layers without one.
        scale: a function of the problem: its numbers over this package's. It is divided out.
    """

    eigenvectors: Callable[[Tensor], Tensor] = in_columns
    eigenvalues: Layout = rows
    vec: Layout = rows
    bias: Bias = bias_last
    scale: Scale = unit
