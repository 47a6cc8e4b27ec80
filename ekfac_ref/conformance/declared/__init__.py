"""What a subject may declare of its rules: how it damps, and how an optimizer trains."""

from ekfac_ref.conformance.declared.averages import (
    FromTheFirst,
    FromZero,
    Latest,
    OverBatches,
    OverSamples,
)
from ekfac_ref.conformance.declared.training import (
    ByCurvature,
    ByGradient,
    Hyperparameters,
    ReExpressed,
    Restarted,
    Training,
)

__all__ = [
    "ByCurvature",
    "ByGradient",
    "FromTheFirst",
    "FromZero",
    "Hyperparameters",
    "Latest",
    "OverBatches",
    "OverSamples",
    "ReExpressed",
    "Restarted",
    "Training",
]
