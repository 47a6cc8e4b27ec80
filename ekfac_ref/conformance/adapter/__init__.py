"""Another implementation's conventions, declared and undone."""

from ekfac_ref.conformance.adapter.adapted import Parts, adapted
from ekfac_ref.conformance.adapter.conventions import Convention
from ekfac_ref.conformance.adapter.layouts import (
    Bias,
    Layout,
    bias_behind,
    bias_first,
    bias_last,
    columns,
    in_columns,
    in_rows,
    rows,
)
from ekfac_ref.conformance.adapter.parts import Eigen, Factors, Matrix, Part, WithBias
from ekfac_ref.conformance.adapter.scales import Scale, mean_loss, of_loss, samples, sum_loss, unit

__all__ = [
    "Bias",
    "Convention",
    "Eigen",
    "Factors",
    "Layout",
    "Matrix",
    "Part",
    "Parts",
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
