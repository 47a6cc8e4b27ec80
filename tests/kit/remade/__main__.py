"""What the diagnosis calls every one of them, and how many come first under their own name.

``python -m tests.kit.remade [--seed N] [NAME ...]``
"""

import argparse
import warnings

import torch

from ekfac_ref.conformance.diagnosis.comparable import DOUBLE
from ekfac_ref.conformance.diagnosis.comparison import compared, relative
from ekfac_ref.conformance.diagnosis.diagnose import diagnose
from ekfac_ref.conformance.diagnosis.factor import Candidate
from ekfac_ref.conformance.diagnosis.selection import comparisons
from ekfac_ref.conformance.mutants import MUTANTS
from tests.kit.remade import REMADE, subject


def is_right(name: str, first: Candidate) -> bool:
    """The right name, or one whose mutant says the same on 200 further problems; no factor."""
    return first.complexity == (0, 0) and (first.name == name or says_the_same(name, first.name))


def says_the_same(name: str, other: str) -> bool:
    ask = next((mutant.subject.ekfac for mutant in MUTANTS.values() if mutant.name == other), None)
    if ask is None:
        return False
    seed, asked = 1000, 0
    while asked < 200:
        for mine in comparisons(subject(name), DOUBLE, 40, seed):
            answer, asked = compared(ask, mine.question), asked + 1
            if answer is None or max(map(relative, mine.given, answer.given)) > DOUBLE.fits:
                return False
        seed += 1
    return True


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kit.remade", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", default=list(REMADE))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    right = 0
    for name in options.names:
        found = diagnose(subject(name), seed=options.seed)
        agreeing = [c for c in found.candidates if c.error <= DOUBLE.fits]
        good = bool(agreeing) and is_right(name, agreeing[0])
        right += good
        said = ", ".join(f"{c.name} x {c.factor}" for c in agreeing) or found.sentence
        print(f"{'right' if good else 'WRONG'} {name}: {said}", flush=True)
    print(f"{right} of {len(options.names)}, {right / len(options.names):.0%}")


if __name__ == "__main__":
    main()
