"""Exact, KFAC and EKFAC Fisher blocks from exact per-sample gradients, to check others by."""

from ekfac_ref.blocks import ekfac, exact_fisher, full_fisher, kfac, per_sample_gradients
from ekfac_ref.errors import ProblemError
from ekfac_ref.losses import likelihood_of, loss_scale
from ekfac_ref.matrix.fisher import FullFisher
from ekfac_ref.matrix.lookup import LookupEigenKronecker, LookupKronecker
from ekfac_ref.matrix.operators import BlockDiagonal, Dense, EigenKronecker, Kronecker, Operator
from ekfac_ref.model.layers import Layer, find_layers, find_parameters
from ekfac_ref.model.layers_of import layers_of, parameters_of
from ekfac_ref.question.columns import Empirical, Exact, Sampled
from ekfac_ref.question.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Poisson
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand, Reduce

__version__ = "0.1.0"

__all__ = [
    "Bernoulli",
    "BlockDiagonal",
    "Categorical",
    "Dense",
    "EigenKronecker",
    "Empirical",
    "Exact",
    "Expand",
    "FullFisher",
    "Gaussian",
    "Kronecker",
    "Layer",
    "Likelihood",
    "LookupEigenKronecker",
    "LookupKronecker",
    "Operator",
    "Poisson",
    "Problem",
    "ProblemError",
    "Reduce",
    "Sampled",
    "ekfac",
    "exact_fisher",
    "find_layers",
    "find_parameters",
    "full_fisher",
    "kfac",
    "layers_of",
    "likelihood_of",
    "loss_scale",
    "parameters_of",
    "per_sample_gradients",
]
