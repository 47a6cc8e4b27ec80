"""The result of a power run as a page: which law notices which mutant."""

from ekfac_ref.conformance.lawbook import LAWS
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.power import Power

_HEAD = """# Which law notices which mutant

Written by `make power`; do not edit. {date}: {mutants} mutants, {seeds} sets of {problems} drawn
problems each.

- **{killed} of {wrong}** mutants that are no equivalent ones are noticed by some law, in every set.
- {equivalent} are equivalent: no law can notice them, and none does. Proofs below.
- The most problems that were needed until the first law noticed a mutant: {needed}.

```python
from ekfac_ref.conformance.mutants import CATALOGUE
from ekfac_ref.conformance.power import pinned

assert set(pinned().killed) == {{mutant.name for mutant in CATALOGUE}}
```

## The matrix

A number says in how many of the {seeds} sets the law noticed the mutant.

"""


def page(power: Power) -> str:
    """Markdown."""
    wrong = [m for m in CATALOGUE if not m.proof]
    always = [m for m in wrong if max(power.killed[m.name].values(), default=0) == len(power.seeds)]
    head = _HEAD.format(
        date=power.date,
        mutants=len(CATALOGUE),
        seeds=len(power.seeds),
        problems=power.problems,
        killed=len(always),
        wrong=len(wrong),
        equivalent=len(CATALOGUE) - len(wrong),
        needed=max(power.needed.values(), default=0),
    )
    return head + "\n".join([*_matrix(power), "", *_laws(), "", *_mutants()]) + "\n"


def _matrix(power: Power) -> list[str]:
    numbers = [str(number) for number in range(1, len(LAWS) + 1)]
    rows = ["| mutant | " + " | ".join(numbers) + " |", "|---" * (len(LAWS) + 1) + "|"]
    for mutant in CATALOGUE:
        killed = power.killed[mutant.name]
        cells = [str(killed.get(law.name, "")) for law in LAWS]
        rows.append(f"| {mutant.name} | " + " | ".join(cells) + " |")
    return rows


def _laws() -> list[str]:
    lines = ["## The laws", ""]
    for number, law in enumerate(LAWS, start=1):
        lines.append(f"{number}. **{law.name}** ({law.lane.value}): `{law.statement}`")
    return lines


def _mutants() -> list[str]:
    lines = ["## The mutants", ""]
    for mutant in CATALOGUE:
        proof = f" *Equivalent:* {mutant.proof}" if mutant.proof else ""
        lines.append(f"- **{mutant.name}** {mutant.mistake}. {mutant.story}{proof}")
    return lines
