"""Subjects to try the kit on: ``ekfac-ref check ekfac_ref.examples:NAME``."""

import ekfac_ref
from ekfac_ref.conformance.subject import Subject
from ekfac_ref.examples.hooks import hooks
from ekfac_ref.examples.notebook import notebook, notebook_columns

__all__ = ["hooks", "notebook", "notebook_columns", "reference"]

reference = Subject(
    "reference", ekfac_ref.ekfac, kfac=ekfac_ref.kfac, exact_fisher=ekfac_ref.exact_fisher
)
