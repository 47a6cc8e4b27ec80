"""The result of a run where people read it: docs/mutants.md, and the totals in README.md.

``python -m studies.power.page`` writes both anew from the committed result, without measuring.
"""

from collections.abc import Callable
from math import isinf
from pathlib import Path
from statistics import median

from ekfac_ref import conformance as ct
from ekfac_ref.conformance.laws.law import Lane, Law
from studies.power.result import Power, Size, noticed_on_every_set, pinned

PAGE, README = Path("docs/mutants.md"), Path("README.md")
BEGIN = "<!-- written by make power; begin -->\n"
END = "<!-- end -->\n"

MATVEC = {Lane.SUBJECT, Lane.ANY, Lane.SAME, Lane.OPAQUE, Lane.EKFAC}
# From the little that is checked everywhere to everything.
_LAWS: dict[str, Callable[[Law], bool]] = {
    "symmetric and positive semidefinite": lambda law: law.name in {"symmetry", "psd"},
    "the trace": lambda law: law.name == "trace",
    "E = F where KFAC is exact, a batch of one among others": lambda law: law.name == "exactness",
    "E by its definition, where eigenvectors are determined": lambda law: law.name == "comparison",
    "every law that a matvec is enough for": lambda law: law.lane in MATVEC,
    "every law": lambda law: True,
}

_HEAD = """# How strong the laws are

Written by `make power`; do not edit. {date}: {mutants} mutants, {seeds} sets of {problems} drawn
problems each.

- **{noticed} of {wrong}** mutants with a wrong answer are noticed by some law, in every set.
- {equivalent} are equivalent to a correct EKFAC: no law can notice them, and {unnoticed} of them
  were noticed by none. Proofs below.
- The most problems that were needed until the first law noticed a mutant: {needed}.
- The smallest problem that was found on which that law notices a mutant has, in the median,
  {samples} sample(s) and {numbers} numbers in its largest layer.
- A wrong scale is noticed by laws that need only a matvec from {scale} on, on every problem.

```python
from ekfac_ref import conformance as ct

print(f"{{len(ct.MUTANTS)}} mutants, {{len(ct.LAWS)}} laws")
```

```text
{mutants} mutants, {laws} laws
```

"""


def write(power: Power, page_file: Path, readme_file: Path) -> None:
    """Write the page, and the totals between the two marks in the README."""
    page_file.write_text(page(power))
    readme_file.write_text(with_totals(readme_file.read_text(), power))


def with_totals(readme: str, power: Power) -> str:
    """The README's text, this run's totals in it."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + totals(power) + END + after


def totals(power: Power) -> str:
    """How many mistakes some families of laws notice, as a table in Markdown."""
    wrong = [mutant for mutant in ct.MUTANTS.values() if not mutant.proof]
    of_products = {law.name for law in ct.LAWS.values() if law.lane in MATVEC | {Lane.BASIS}}
    change_E = [mutant for mutant in wrong if of_products & set(mutant.laws)]
    lines = [
        f"Of {len(wrong)} mistakes, {len(change_E)} of which change the matrix E, "
        f"noticed on each of {len(power.seeds)} sets of {power.problems} drawn problems "
        f"({power.date}):",
        "",
        "| laws | noticed |",
        "|---|---|",
        *(f"| {what} | {_noticed(power, takes)} |" for what, takes in _LAWS.items()),
    ]
    return "\n".join(lines) + "\n"


def _noticed(power: Power, takes: Callable[[Law], bool]) -> int:
    return len(noticed_on_every_set(power, {law.name for law in ct.LAWS.values() if takes(law)}))


def page(power: Power) -> str:
    """docs/mutants.md: the totals, the laws, the matrix, the resolutions, and the mutants."""
    proven = [mutant.name for mutant in ct.MUTANTS.values() if mutant.proof]
    sizes = [one.smallest for one in power.mutants.values() if one.smallest]
    head = _HEAD.format(
        date=power.date,
        mutants=len(ct.MUTANTS),
        laws=len(ct.LAWS),
        seeds=len(power.seeds),
        problems=power.problems,
        noticed=_noticed(power, lambda law: True),
        samples=median(size.samples for size in sizes),
        numbers=median(size.numbers for size in sizes),
        wrong=len(ct.MUTANTS) - len(proven),
        equivalent=len(proven),
        unnoticed=sum(not power.mutants[name].laws for name in proven),
        needed=max(one.needed or 0 for one in power.mutants.values()),
        scale=" and ".join(f"{error:.0e} in {dtype}" for dtype, error in power.scale.items()),
    )
    parts = [_laws(), _matrix(power), _resolution(power), _mutants(power)]
    return head + "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _laws() -> list[str]:
    lines = ["## The laws", ""]
    for number, law in enumerate(ct.LAWS.values(), start=1):
        lines.append(f"{number}. **{law.name}** ({law.lane.value}): `{law.statement}`")
    return lines


def _matrix(power: Power) -> list[str]:
    lines = [
        "## The matrix",
        "",
        "A row is a mutant and a column a law, by its number above. A cell says in how many of the",
        f"{len(power.seeds)} sets the law noticed the mutant. After the first set, only laws that",
        "noticed it before were asked.",
        "",
        "| mutant | " + " | ".join(str(number) for number in range(1, len(ct.LAWS) + 1)) + " |",
        "|---" * (len(ct.LAWS) + 1) + "|",
    ]
    for name in ct.MUTANTS:
        laws = power.mutants[name].laws
        cells = [str(len(laws[law])) if law in laws else "" for law in ct.LAWS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _resolution(power: Power) -> list[str]:
    dtypes = list(power.resolution)
    lines = [
        "## The smallest error that a law notices",
        "",
        "Relative to the norm of the matrix, of the kind that a law notices best: larger by that,",
        "moved in a random direction (once, or at every product), or small parts lost. Median over",
        "the problems that the law was asked on. The other laws are a matter of yes or no.",
        "",
        "| law | " + " | ".join(dtypes) + " |",
        "|---" * (len(dtypes) + 1) + "|",
    ]
    for law in ct.LAWS:
        if any(law in found for found in power.resolution.values()):
            cells = [_error(power.resolution[dtype].get(law)) for dtype in dtypes]
            lines.append(f"| {law} | " + " | ".join(cells) + " |")
    return lines


def _error(size: float | None) -> str:
    return "not asked" if size is None else "none" if isinf(size) else f"{size:.0e}"


def _mutants(power: Power) -> list[str]:
    lines = ["## The mutants", ""]
    for mutant in ct.MUTANTS.values():
        proof = f" *Equivalent:* {mutant.proof}" if mutant.proof else ""
        found = _smallest(power.mutants[mutant.name].smallest)
        lines.append(f"- **{mutant.name}** {mutant.mistake}. {mutant.story}{proof}{found}")
    return lines


def _smallest(size: Size | None) -> str:
    if size is None:
        return ""
    layers = "one layer" if size.layers == 1 else f"{size.layers} layers"
    samples = "one sample" if size.samples == 1 else f"{size.samples} samples"
    return f" *Smallest found:* {layers}, up to {size.numbers} numbers in one; {samples}."


if __name__ == "__main__":
    write(pinned(), PAGE, README)
