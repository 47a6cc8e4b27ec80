"""The totals of a power run, where everybody sees them: between two marks in the README."""

from collections.abc import Callable

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.laws.law import Lane, Law
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.mutants.mutant import Mutant
from studies.power.measure import Power

BEGIN = "<!-- written by make power; begin -->\n"
END = "<!-- end -->\n"

_FAMOUS = {"symmetry", "psd"}
# What is asked, from the little that is asked everywhere to everything.
_ROWS: dict[str, Callable[[Law], bool]] = {
    "symmetric and positive semidefinite": lambda law: law.name in _FAMOUS,
    "the trace": lambda law: law.name == "trace",
    "E = F where KFAC is exact, a batch of one among others": lambda law: law.name == "exactness",
    "equal to one's own E, where eigenvectors are determined": lambda law: law.name == "comparison",
    "every law that a matvec is enough for": lambda law: law.lane is Lane.OPAQUE,
    "every law": lambda law: True,
}


def with_front_window(readme: str, power: Power) -> str:
    """The README with this run's totals in it."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + front_window(power) + END + after


def front_window(power: Power) -> str:
    """Markdown."""
    wrong = [mutant for mutant in MUTANTS.values() if not mutant.proof]
    rows = [f"| {what} | {len(noticed(power, takes))} |" for what, takes in _ROWS.items()]
    pairs = sum(power.alarms.pairs.values())
    lines = [
        f"Of {len(wrong)} mistakes, {len(shown_by_products(wrong))} of which change the matrix E, "
        f"noticed on each of {len(power.seeds)} sets of {power.problems} drawn problems "
        f"({power.date}):",
        "",
        "| asked | noticed |",
        "|---|---|",
        *rows,
        "",
        f"False alarms: {len(power.alarms.broken)} in {pairs:,} pairs of a problem and a correct "
        f"implementation, {len(power.alarms.pairs)} of those.",
    ]
    return "\n".join(lines) + "\n"


def shown_by_products(mutants: list[Mutant]) -> list[Mutant]:
    """Those that are wrong in what a matvec shows; the others are in solves, KFAC and F alone."""
    lanes = {law.name: law.lane for law in LAWS.values()}
    return [m for m in mutants if {lanes[law] for law in m.laws} & {Lane.OPAQUE, Lane.BASIS}]


def noticed(power: Power, takes: Callable[[Law], bool]) -> list[str]:
    """Wrong mutants that some law among these noticed, on every set."""
    laws = {law.name for law in LAWS.values() if takes(law)}
    sets = set(power.seeds)
    return [
        mutant.name
        for mutant in MUTANTS.values()
        if not mutant.proof
        and sets
        == {s for law, seeds in power.killed[mutant.name].items() if law in laws for s in seeds}
    ]
