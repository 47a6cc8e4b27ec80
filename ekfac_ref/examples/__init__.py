"""Subjects to try the kit on: ``ekfac-ref check ekfac_ref.examples:NAME``."""

import ekfac_ref
from ekfac_ref.conformance.subject import Subject

__all__ = ["reference"]

reference = Subject(
    "reference", ekfac_ref.ekfac, kfac=ekfac_ref.kfac, exact_fisher=ekfac_ref.exact_fisher
)
