"""How much is asked in a run."""

from dataclasses import dataclass

from ekfac_ref.errors import ProblemError, among


@dataclass(frozen=True)
class Profile:
    """How much is asked in a run.

    Attributes:
        name: what reports call it.
        problems: how many are drawn; all laws are asked of each.
        shrink_seconds: how long a smaller problem is looked for, for each broken law.
        draws: whether subjects that draw labels for themselves are asked for thousands of them,
            though they have other answers, too.
        explains: whether smaller problems, and a name for the mistake, are looked for. Verdicts,
            and the features that they come with, are the same without.
    """

    name: str
    problems: int
    shrink_seconds: float
    draws: bool = False
    explains: bool = True


PROFILES = {
    p.name: p
    for p in (
        Profile("demo", 12, 1.0),
        Profile("verdicts", 200, 0.0, explains=False),
        Profile("quick", 200, 3.0),
        Profile("full", 400, 20.0, draws=True),
    )
}


def profile_named(name: str) -> Profile:
    """One of PROFILES; ProblemError if there is none of that name."""
    if name not in PROFILES:
        raise ProblemError(f"profile: there is no {name!r}; {among(PROFILES, name)}.")
    return PROFILES[name]
