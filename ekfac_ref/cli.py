"""The command ``ekfac-ref``: arguments in, exit code out."""

import argparse
import contextlib
import errno
import io
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn, TextIO

from hypothesis.configuration import set_hypothesis_home_dir

from ekfac_ref.commands.check import check_command
from ekfac_ref.commands.lists import laws_command, mutants_command
from ekfac_ref.commands.new import new_command
from ekfac_ref.commands.offline import export_command, judge_command
from ekfac_ref.commands.power import power_command
from ekfac_ref.commands.subject import refuse
from ekfac_ref.commands.vectors import vectors_command
from ekfac_ref.conformance.findings.known import KnownDeviations, known_from
from ekfac_ref.conformance.findings.verdicts import FAULT
from ekfac_ref.conformance.laws.catalogue import ASKED_AT_ANY_SIZE, LAWS
from ekfac_ref.conformance.mutants import MUTANTS
from ekfac_ref.conformance.offline.export import KINDS_OF_LAYERS
from ekfac_ref.conformance.run.load import MUTANT
from ekfac_ref.conformance.run.profile import PROFILES
from ekfac_ref.errors import ProblemError, among

EXIT_CODES = (
    "exit codes of check, the first that applies: 2 wrong usage, 6 the kit itself failed, 3 a "
    "problem got no answer, 4 not all was asked, 1 it does not conform, 3 too few were answered, 5 "
    "inconclusive, 0 it conforms; 141 where nobody reads the report to its end (check ... | head), "
    "which is no verdict"
)
_UNHEARD = 141  # as a shell has it of a program that a closed pipe has ended
_NO_ROOM = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    sys.stdout, sys.stderr = _stream(sys.stdout), _stream(sys.stderr)
    options = _parser().parse_args(arguments)
    try:
        # What Hypothesis keeps for itself is left nowhere.
        with tempfile.TemporaryDirectory(prefix="ekfac-ref-") as folder:
            set_hypothesis_home_dir(folder)
            code = int(options.run(options))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return refuse("interrupted", 4)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _unheard(error)
        traceback.print_exc()
        return refuse(FAULT, 6)
    finally:
        set_hypothesis_home_dir(None)


def _stream(stream: TextIO | None) -> TextIO:
    """One to write to, whatever it was started with: none, or one that knows few letters."""
    if stream is None:
        return open(os.devnull, "w")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def _unheard(error: OSError) -> int:
    """stdout takes no more; so that Python does not try again at its end, it is nothing then."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return refuse(f"the report could not be printed ({error})", _UNHEARD)


class _Parser(argparse.ArgumentParser):
    """Says what may have been meant by a word that is none of the choices."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2; ``message`` is argparse's."""
        told, _, choices = message.partition(" (choose from ")
        word = re.search(r"invalid choice: '(.*)'", told)
        if word and choices:
            names = [name.strip("' ") for name in choices.rstrip(")").split(",")]
            message = f"{told}; {among(names, word[1])}"
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ekfac-ref", description="Put an implementation of EKFAC on trial.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"ekfac-ref {version('ekfac-ref')}")
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="write an adapter to fill in")
    new.add_argument("file", type=_file, metavar="FILE.py")
    new.set_defaults(run=new_command)
    check = commands.add_parser("check", help="all laws, asked of a subject", epilog=EXIT_CODES)
    check.add_argument(
        "subjects",
        nargs="+",
        metavar="subject",
        help=f"package.module:name, or {MUTANT}NAME for a known mistake; several side by side",
    )
    asked = check.add_mutually_exclusive_group()
    asked.add_argument("--profile", choices=PROFILES, default="quick", help=_profiles())
    check.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    asked.add_argument(
        "--problem",
        metavar="MODULE:NAME",
        help="a problem of your own instead of drawn ones, or a function that returns it: its "
        "layers may have any size",
    )
    check.add_argument(
        "--seconds", type=_seconds, help="per problem (default: 60; with --problem, 3600)"
    )
    check.add_argument(
        "--max-fail", type=_number, metavar="N", help="stop after N problems that break a law"
    )
    _add_laws_and_reports(check, (*LAWS, *ASKED_AT_ANY_SIZE))
    check.add_argument(
        "--in-process", action="store_true", help="ask the subject in this process, to debug it"
    )
    check.set_defaults(run=check_command)
    told = commands.add_parser("laws", help="what must hold")
    told.add_argument("law", nargs="?", choices=LAWS, metavar="LAW", help="all about one")
    told.set_defaults(run=laws_command)
    mutants = commands.add_parser("mutants", help="known mistakes")
    mutants.add_argument(
        "mutant", nargs="?", choices=MUTANTS, metavar="MUTANT", help="all about one"
    )
    mutants.set_defaults(run=mutants_command)
    power = commands.add_parser("power", help="known mistakes that a subject could hide")
    power.add_argument("subject", help="package.module:name")
    power.add_argument(
        "--problems",
        type=_number,
        default=PROFILES["quick"].problems,
        help="for every mistake (default: as many as a quick check has, %(default)s, which take "
        "more than ten minutes; the first 24 are plain layers alone)",
    )
    power.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    power.set_defaults(run=power_command)
    vectors = commands.add_parser("vectors", help="bare a and g with answers, for any language")
    vectors.add_argument("folder", type=Path, metavar="DIR", help="is made where it is not there")
    vectors.set_defaults(run=vectors_command)
    export = commands.add_parser("export", help="problems as files, for any language")
    export.add_argument("folder", type=Path, metavar="DIR", help="is made where it is not there")
    export.add_argument("--problems", type=_number, default=100, help="drawn (default: 100)")
    export.add_argument("--seed", type=int, default=0, help="of the problems (default: 0)")
    export.add_argument(
        "--layer", action="append", choices=KINDS_OF_LAYERS, metavar="KIND", help="only these kinds"
    )
    export.set_defaults(run=export_command)
    judge = commands.add_parser("judge", help="all laws, asked of answers in files")
    judge.add_argument("folder", type=Path, metavar="DIR", help="that export has made")
    _add_laws_and_reports(judge, LAWS)
    judge.set_defaults(run=judge_command)
    return parser


def _add_laws_and_reports(command: argparse.ArgumentParser, laws: Iterable[str]) -> None:
    command.add_argument("--law", action="append", choices=laws, metavar="LAW", help="only these")
    command.add_argument("--report", type=_file, metavar="OUT.html", help="write a page to look at")
    command.add_argument("--json", type=_file, metavar="OUT.json", help="write it for a program")
    command.add_argument("--junit", type=_file, metavar="OUT.xml", help="write it as tests, for CI")
    command.add_argument(
        "--known", type=_known, metavar="FILE.json", help="deviations that are known, with reasons"
    )


def _profiles() -> str:
    sizes = ", ".join(
        f"{one.name} {one.problems}"
        + ("" if one.explains else " (no smaller ones, no name for the mistake)")
        for one in PROFILES.values()
    )
    return f"problems: {sizes}; default: quick"


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time limit; give seconds above 0")
    return seconds


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of problems; give 1 or more")
    return number


def _known(text: str) -> tuple[str, KnownDeviations]:
    try:
        return text, known_from(Path(text).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ProblemError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def _file(text: str) -> Path:
    path = Path(text).absolute()  # the subject may go elsewhere
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"{text}: not a file in a folder that is there; make it first"
        )
    return path


if __name__ == "__main__":
    sys.exit(main())
