"""Another implementation's conventions, declared and undone."""

from ekfac_ref.conformance.adapter.adapted import adapted
from ekfac_ref.conformance.adapter.conventions import (
    Bias,
    Convention,
    Layout,
    Scale,
    bias_behind,
    bias_first,
    bias_last,
    columns,
    in_columns,
    in_rows,
    mean_loss,
    of_loss,
    rows,
    samples,
    sum_loss,
    unit,
)
from ekfac_ref.conformance.adapter.parts import Eigen, Factors, Matrix, WithBias

__all__ = [
    "Bias",
    "Convention",
    "Eigen",
    "Factors",
    "Layout",
    "Matrix",
    "Scale",
    "WithBias",
    "adapted",
    "bias_behind",
    "bias_first",
    "bias_last",
    "columns",
    "in_columns",
    "in_rows",
    "mean_loss",
    "of_loss",
    "rows",
    "samples",
    "sum_loss",
    "unit",
]
