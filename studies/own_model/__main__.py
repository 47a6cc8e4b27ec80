"""Ask every mistake of the catalogue on two networks; ``own_model.toml`` has what came of it."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import ekfac_ref as ek
from ekfac_ref.conformance.truth import oracle
from studies.own_model.measure import Noticed, all_noticed, versions
from studies.own_model.models import resnet, transformer

PINNED = Path(__file__).parent / "own_model.toml"
HEAD = """\
# The last run of `python -m studies.own_model`: mistakes of the catalogue on two networks.
#
# `change` is by how much E is off, |E' V - E V| / |E V| in the layer where that is largest. `shown`
# are the laws that notice it where eigenvectors and eigenvalues are shown, `opaque` those that do
# where products and solutions are all there is. `layers`: on how many layers E is off by more than
# one percent, and on how many of these products alone notice it. `raised`: instead of an answer.
"""


def _one_block_of_the_transformer() -> ek.Problem:
    """Five of its layers; the others are like them, and mistakes are slow on purpose."""
    problem = transformer(samples=8, length=16)
    layers = [name for name in problem.layers or () if name.startswith(("blocks.2", "head"))]
    return replace(problem, layers=tuple(layers))


PROBLEMS: dict[str, Callable[[], ek.Problem]] = {
    "resnet": resnet,
    "transformer": _one_block_of_the_transformer,
}


def _running_sum(terms):  # type: ignore[no-untyped-def]
    """The oracle's sum over terms that are too many to be kept."""
    return sum(terms)


def rows(name: str) -> Iterator[str]:
    """A table of the file."""
    yield f"\n[{name}]"
    for number, found in enumerate(all_noticed(PROBLEMS[name]())):
        print(name, number, found, file=sys.stderr, flush=True)
        yield f"{found.mutant} = {_row(found)}"


def _row(found: Noticed) -> str:
    if found.raised:
        return f'{{ raised = "{found.raised}" }}'
    parts = [f"change = {found.change:.3g}", f"layers = {json.dumps(list(found.layers))}"]
    parts += [f"shown = {json.dumps(found.shown)}", f"opaque = {json.dumps(found.opaque)}"]
    return f"{{ {', '.join(parts)} }}"


if __name__ == "__main__":
    oracle._sum = _running_sum
    lines = [HEAD, f'date = "{date.today()}"']
    lines += [f'{name} = "{version}"' for name, version in versions().items()]
    for name in PROBLEMS:
        lines += rows(name)
    PINNED.write_text("\n".join(lines) + "\n")
