"""The published mistakes as a page: a table of who made which, and the mutants that make it too.

``python -m studies.power.published_page`` prints it.
"""

from ekfac_ref.conformance.mutants import MUTANTS
from studies.power.published import PUBLISHED, Published

_HEAD = """# Published mistakes

Printed by `python -m studies.power.published_page`; do not edit.

What has gone wrong in public implementations of KFAC, EKFAC, Fishers, per-sample gradients and what
is built on them. Most of it an EKFAC can get wrong too, or a KFAC or an exact block beside it; then
the catalogue has mutants that do, and the laws that notice those are what stands between it and
another library (`ekfac-ref mutants NAME` says which).

```python
from ekfac_ref.conformance.mutants import MUTANTS
from studies.power.published import PUBLISHED

made = [published for published in PUBLISHED if published.mutants]
assert {{name for published in made for name in published.mutants}} <= set(MUTANTS)
print(f"{{len(made)}} of {{len(PUBLISHED)}} have mutants")
```

```text
{made} of {all} have mutants
```

A source is repository#issue or repository@commit; none is given for a mistake that nobody is known
to have made, where a variant of it was. Where it makes no difference to an EKFAC, which takes
nothing but eigenvectors from A and B, its mutant has a proof of that instead of laws.

| source | it ... | mutants, or why there are none |
|---|---|---|
"""


def page() -> str:
    """Markdown."""
    made = sum(bool(published.mutants) for published in PUBLISHED)
    head = _HEAD.format(made=made, all=len(PUBLISHED))
    return head + "\n".join(map(_row, PUBLISHED)) + "\n"


def _row(published: Published) -> str:
    mutants = ", ".join(map(_named, published.mutants))
    last = mutants or f"None. {published.why_none}"
    return f"| {published.source or '—'} | {published.mistake} | {last} |"


def _named(name: str) -> str:
    equivalent = any(mutant.name == name and mutant.proof for mutant in MUTANTS.values())
    return f"`{name}`" + (" (no difference)" if equivalent else "")


if __name__ == "__main__":
    print(page(), end="")
