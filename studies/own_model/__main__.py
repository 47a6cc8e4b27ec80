"""Ask every mistake of the catalogue on two networks; ``own_model.toml`` has what came of it."""

import json
import resource
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date

import torch

import ekfac_ref as ek
from ekfac_ref.conformance.truth import oracle
from studies.own_model.measure import Noticed, all_noticed, in_the_matrix
from studies.own_model.models import resnet, transformer
from studies.own_model.result import PINNED, from_toml

MEMORY = 12 * 2**30  # bytes; a mistake that takes more, as one that writes P x P does, is left out
HEAD = """\
# The last run of `python -m studies.own_model`: mistakes of the catalogue, in float32.
#
# `change` is by how much E is off, |E' V - E V| / |E V| in the layer where that is largest. `shown`
# are the laws that notice it where eigenvectors and eigenvalues are shown, `opaque` those that do
# where products and solutions are all there is. `layers`: on how many layers E is off by more than
# one percent, and on how many of these products alone notice it. `raised`: instead of an answer,
# for want of memory mostly. The transformer is asked for five of its 21 layers.
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


def _running_sum(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    """The oracle's sum over terms that are too many to be kept."""
    each = iter(terms)
    total = next(each).clone()
    for term in each:
        total += term
    return total


def row(found: Noticed) -> str:
    """A line of the file."""
    if found.raised:
        return f'{found.mutant} = {{ raised = "{found.raised}" }}'
    parts = [f"change = {found.change:.3g}", f"layers = {json.dumps(list(found.layers))}"]
    parts += [f"shown = {json.dumps(found.shown)}", f"opaque = {json.dumps(found.opaque)}"]
    return f"{found.mutant} = {{ {', '.join(parts)} }}"


def main() -> None:
    """Go on where the file ends, if it is there; delete it to begin anew."""
    if not PINNED.exists():
        PINNED.write_text(f'{HEAD}\ndate = "{date.today()}"\ntorch = "{torch.__version__}"\n')
    for name, problem in PROBLEMS.items():
        known = from_toml(PINNED.read_text())
        if name not in known:
            PINNED.write_text(f"{PINNED.read_text()}\n[{name}]\n")
        done = {**known.get(name, {})}
        left = [mutant for mutant in in_the_matrix() if mutant.name not in done]
        for found in all_noticed(problem(), left):
            print(name, found, file=sys.stderr, flush=True)
            with PINNED.open("a") as file:
                file.write(f"{row(found)}\n")


if __name__ == "__main__":
    oracle._sum = _running_sum
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    main()
