"""The command ``ekfac-ref``: arguments in, exit code out."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ekfac_ref.commands.check import check_command
from ekfac_ref.commands.lists import laws_command, mutants_command
from ekfac_ref.commands.power import power_command
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.run.load import MUTANT
from ekfac_ref.conformance.run.profile import PROFILES

EXIT_CODES = (
    "exit codes of check, the first that applies: 3 a problem got no answer, 4 not all was asked, "
    "1 it does not conform, 2 inconclusive or wrong usage, 0 it conforms"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ekfac-ref", description="Put an implementation of EKFAC on trial.", epilog=EXIT_CODES
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="all laws, asked of a subject", epilog=EXIT_CODES)
    check.add_argument("subject", help=f"package.module:name, or {MUTANT}NAME for a known mistake")
    check.add_argument("--profile", choices=PROFILES, default="quick", help=_profiles())
    check.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    check.add_argument("--law", action="append", choices=LAWS, metavar="LAW", help="only these")
    check.add_argument("--seconds", type=_seconds, default=60.0, help="per problem (default: 60)")
    check.add_argument("--report", type=_file, metavar="OUT.html", help="write a page to look at")
    check.add_argument("--json", type=_file, metavar="OUT.json", help="write it for a program")
    check.set_defaults(run=check_command)
    laws = commands.add_parser("laws", help="what must hold")
    laws.add_argument("law", nargs="?", choices=LAWS, metavar="LAW", help="all about one")
    laws.set_defaults(run=laws_command)
    mutants = commands.add_parser("mutants", help="known mistakes")
    mutants.add_argument(
        "mutant", nargs="?", choices=MUTANTS, metavar="MUTANT", help="all about one"
    )
    mutants.set_defaults(run=mutants_command)
    power = commands.add_parser("power", help="known mistakes that a subject could hide")
    power.add_argument("subject", help="package.module:name")
    power.add_argument("--problems", type=int, default=24, help="for every mistake (default: 24)")
    power.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    power.set_defaults(run=power_command)
    return parser


def _profiles() -> str:
    sizes = ", ".join(f"{profile.name} {profile.problems}" for profile in PROFILES.values())
    return f"problems: {sizes} (default: quick)"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time limit; give seconds above 0")
    return seconds


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"{text}: not a file in a folder that is there; make it first"
        )
    return path


if __name__ == "__main__":
    sys.exit(main())
