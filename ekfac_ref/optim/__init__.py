"""EKFAC and KFAC as preconditioners, and as optimizers: curvature kept up while a model trains."""

from ekfac_ref.optim.optimizers import EKFAC, KFAC
from ekfac_ref.optim.preconditioners import EKFACPreconditioner, KFACPreconditioner

__all__ = ["EKFAC", "KFAC", "EKFACPreconditioner", "KFACPreconditioner"]
