"""Is an EKFAC right? The kit's face: all that a validator needs.

.. code-block:: python

    from ekfac_ref import conformance as ct

    ct.check(my_ekfac, "quick").summary
    ct.ask(my_ekfac, problem, ["trace", "commutes"])
    ct.check_on(my_ekfac, my_problem).summary
    ct.LAWS["trace"].statement, ct.MUTANTS["half-lambda"].story

Another library's conventions are declared in ``conformance.adapter``, the rules of an optimizer in
``conformance.declared``; the laws become tests of your own with ``conformance.for_pytest``. Nothing
else is public.
"""

from ekfac_ref.conformance.declared.damping import Factored, OnKFAC
from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.findings.known import KnownDeviations
from ekfac_ref.conformance.findings.report import Report
from ekfac_ref.conformance.findings.verdicts import Status
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.own_model.check_on import check_on
from ekfac_ref.conformance.problems import networks
from ekfac_ref.conformance.problems.abilities import Abilities
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.run.ask import ask
from ekfac_ref.conformance.run.check import check
from ekfac_ref.conformance.run.load import load
from ekfac_ref.conformance.run.profile import Profile
from ekfac_ref.conformance.subjects.attention import Packed
from ekfac_ref.conformance.subjects.definition import Definition, Separate, Shared
from ekfac_ref.conformance.subjects.matrices import BadAnswer
from ekfac_ref.conformance.subjects.subject import Subject, as_subject
from ekfac_ref.conformance.truth.tolerance import Doubt, LawBroken

__all__ = [
    "LAWS",
    "MUTANTS",
    "Abilities",
    "BadAnswer",
    "Definition",
    "Doubt",
    "Factored",
    "KnownDeviations",
    "LawBroken",
    "OnKFAC",
    "Packed",
    "Profile",
    "Report",
    "Separate",
    "Shared",
    "Status",
    "Subject",
    "as_subject",
    "ask",
    "check",
    "check_on",
    "diagnose",
    "draw_problems",
    "load",
    "networks",
]
