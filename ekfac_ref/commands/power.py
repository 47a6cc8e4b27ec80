"""``ekfac-ref power``: known mistakes that a subject could hide, given what it answers."""

import argparse
import contextlib
import io
import sys

from rich.console import Console
from rich.progress import track

from ekfac_ref.commands.subject import Unbroken, with_subject
from ekfac_ref.conformance.diagnosis.blind_spots import noticed, offered
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.problems.draw import draw_problems
from ekfac_ref.conformance.reports import blind_spots
from ekfac_ref.conformance.reports.terminal import Terminal
from ekfac_ref.conformance.subjects.subject import Subject


def power_command(options: argparse.Namespace) -> int:
    """Put every known mistake in the subject's place, and print those that no law notices there."""

    def ask(subject: Subject, printed: io.StringIO) -> int:
        drawn = draw_problems(subject.abilities, options.problems, options.seed)
        wrong = [mutant for mutant in MUTANTS.values() if not mutant.proof]
        with contextlib.redirect_stdout(printed):
            laws = offered(subject, drawn)
            found = noticed(subject, drawn, laws, wrong)
            bar = Console(file=Unbroken(sys.stderr))
            tried = list(track(found, "mistakes", len(wrong), console=bar, transient=True))
        blind_spots.print_blind_spots(Terminal(), options.subject, tried, laws, options.problems)
        return 0

    return with_subject(options.subject, ask)
