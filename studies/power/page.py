"""The result of a power run as a page: which law notices which mutant."""

from math import isinf
from statistics import median

from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from studies.power.front import noticed
from studies.power.measure import Power, Size

_HEAD = """# How strong the laws are

Written by `make power`; do not edit. {date}: {mutants} mutants, {seeds} sets of {problems} drawn
problems each.

- **{killed} of {wrong}** mutants that are no equivalent ones are noticed by some law, in every set.
- {equivalent} are equivalent: no law can notice them, and {unnoticed} of them were noticed by none.
  Proofs below.
- The most problems that were needed until the first law noticed a mutant: {needed}.
- The smallest problem that was found to show a mutant has, in the median, {samples} sample(s) and
  {numbers} numbers in its largest layer.
- **{broken} false alarms** (laws broken) in {pairs} pairs of a correct subject and a problem, all
  laws asked of each: {each} of every one of {subjects}. {bound}
- A wrong scale is seen by laws that need only a matvec from {scale} on, on every problem.

```python
from ekfac_ref.conformance.mutants import MUTANTS
from studies.power.measure import pinned

assert set(pinned().killed) == set(MUTANTS)
```

## The matrix

A number says in how many of the {seeds} sets the law noticed the mutant. After the first, only laws
that noticed it there were asked.

"""


def page(power: Power) -> str:
    """Markdown."""
    wrong = [m for m in MUTANTS.values() if not m.proof]
    pairs = sum(power.alarms.pairs.values())
    head = _HEAD.format(
        date=power.date,
        mutants=len(MUTANTS),
        seeds=len(power.seeds),
        problems=power.problems,
        killed=len(noticed(power, lambda law: True)),
        samples=median(size.samples for size in power.smallest.values()),
        numbers=median(size.numbers for size in power.smallest.values()),
        wrong=len(wrong),
        equivalent=len(MUTANTS) - len(wrong),
        unnoticed=sum(1 for m in MUTANTS.values() if m.proof and not power.killed[m.name]),
        needed=max(power.needed.values(), default=0),
        broken=len(power.alarms.broken),
        pairs=f"{pairs:,}",
        each=" or ".join(f"{n:,}" for n in sorted(set(power.alarms.pairs.values()))),
        subjects=", ".join(f"`{path}`" for path in power.alarms.pairs),
        bound=f"With 95 % confidence the rate is below 3 / n, {3 / pairs:.1e}."
        if not power.alarms.broken
        else "No bound follows: those have to be explained first.",
        scale=" and ".join(f"{error:.0e} in {dtype}" for dtype, error in power.scale.items()),
    )
    parts = [_matrix(power), _laws(), _resolution(power), _mutants(power)]
    return head + "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _matrix(power: Power) -> list[str]:
    numbers = [str(number) for number in range(1, len(LAWS) + 1)]
    rows = ["| mutant | " + " | ".join(numbers) + " |", "|---" * (len(LAWS) + 1) + "|"]
    for mutant in MUTANTS.values():
        killed = power.killed[mutant.name]
        cells = [str(len(killed[law.name])) if law.name in killed else "" for law in LAWS.values()]
        rows.append(f"| {mutant.name} | " + " | ".join(cells) + " |")
    return rows


def _laws() -> list[str]:
    lines = ["## The laws", ""]
    for number, law in enumerate(LAWS.values(), start=1):
        lines.append(f"{number}. **{law.name}** ({law.lane.value}): `{law.statement}`")
    return lines


def _resolution(power: Power) -> list[str]:
    dtypes = list(power.resolution)
    lines = [
        "## The smallest error that a law sees",
        "",
        "Relative to the norm of the matrix; of whichever kind the law sees best: larger by that,",
        "moved in a random direction (once, or at every product), or small parts lost. Median over",
        "the problems that the law was asked on. The other laws are a matter of yes or no.",
        "",
        "| law | " + " | ".join(dtypes) + " |",
        "|---" * (len(dtypes) + 1) + "|",
    ]
    for law in LAWS.values():
        if any(law.name in found for found in power.resolution.values()):
            cells = [_error(power.resolution[dtype].get(law.name)) for dtype in dtypes]
            lines.append(f"| {law.name} | " + " | ".join(cells) + " |")
    return lines


def _error(size: float | None) -> str:
    return "not asked" if size is None else "none" if isinf(size) else f"{size:.0e}"


def _mutants(power: Power) -> list[str]:
    lines = ["## The mutants", ""]
    for mutant in MUTANTS.values():
        proof = f" *Equivalent:* {mutant.proof}" if mutant.proof else ""
        shown = _smallest(power.smallest.get(mutant.name))
        lines.append(f"- **{mutant.name}** {mutant.mistake}. {mutant.story}{proof}{shown}")
    return lines


def _smallest(size: Size | None) -> str:
    if size is None:
        return ""
    layers = "one layer" if size.layers == 1 else f"{size.layers} layers"
    samples = "one sample" if size.samples == 1 else f"{size.samples} samples"
    return f" *Smallest found:* {layers}, up to {size.numbers} numbers in one; {samples}."
