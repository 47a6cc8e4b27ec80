r"""How a subject damps what it inverts: the field has several ways, which are several inverses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tikhonov:
    """(M + d I)^-1: the damping d is added to the eigenvalues, once.

    M is the block that the subject shows. One that shows none, and preconditions, has EKFAC's.
    """


@dataclass(frozen=True)
class OnKFAC:
    """(B (x) A + d I)^-1, whether the subject shows its KFAC or not: d added to the products.

    Beside an EKFAC that is shown, a ``precondition`` is held to that.
    """


@dataclass(frozen=True)
class Factored:
    r"""(B + sqrt(d) / pi I)^-1 (x) (A + sqrt(d) pi I)^-1, pi^2 = (tr A / d_in) / (tr B / d_out).

    Each factor gets a part of the damping d (Martens & Grosse 2015, section 6.3). It is the inverse
    of B (x) A + d I + sqrt(d) (pi B (x) I + I (x) A / pi), no resolvent of B (x) A. A scalar moved
    from one factor to the other changes nothing: pi takes it up. Where A or B is zero there is no
    pi, and nothing is asked.
    """


Damping = Tikhonov | OnKFAC | Factored
