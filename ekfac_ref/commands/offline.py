"""``ekfac-ref export`` and ``ekfac-ref judge``: questions into files, and answers out of them."""

import argparse
import shlex
from pathlib import Path

import torch

from ekfac_ref.commands.check import printed, put_on_trial
from ekfac_ref.commands.report_files import one_file
from ekfac_ref.commands.subject import refuse
from ekfac_ref.conformance.laws.catalogue import LAWS
from ekfac_ref.conformance.offline.answer import ANSWER, ARRAYS, REFUSED_TEXT
from ekfac_ref.conformance.offline.answered_set import read_set
from ekfac_ref.conformance.offline.export import KINDS_OF_LAYERS, QUESTION, QUESTIONS, export
from ekfac_ref.conformance.offline.judge import OfFiles
from ekfac_ref.conformance.offline.questions import NOT_OF_FILES
from ekfac_ref.errors import ProblemError
from ekfac_ref.extras import missing


def export_command(options: argparse.Namespace) -> int:
    """Write the questions, and say where answers go."""
    torch.set_num_threads(1)
    folder: Path = options.folder
    try:
        found = export(folder, options.problems, options.seed, options.layer or KINDS_OF_LAYERS)
    except OSError as error:
        return refuse(f"{folder} cannot be written ({error}); give a folder that can", 2)
    print(
        f"Written: {found.says}.\nBeside every {folder / QUESTIONS}/*/{QUESTION}, write {ANSWER} "
        f"or {ARRAYS}, or why not into {REFUSED_TEXT}; then\n\n    ekfac-ref judge {folder}"
    )
    return 0


def judge_command(options: argparse.Namespace) -> int:
    """Put the answers on trial: report, diagnosis and exit code as of ``check``."""
    torch.set_num_threads(1)
    if options.report and (what := missing("report")):
        return refuse(f"--report needs {what}: install with pip install 'ekfac-ref[report]'", 2)
    if twice := one_file(options):
        return refuse(f"{twice} are one file; give each a file of its own", 2)
    asked = [name for name in LAWS if name in (options.law or LAWS)]
    laws = [name for name in asked if name not in NOT_OF_FILES]
    if not laws:
        return refuse(f"of files, {', '.join(asked)} cannot be asked; give another --law", 2)
    try:
        examiner = OfFiles(read_set(options.folder))
    except ProblemError as error:
        return refuse(str(error), 2)
    words = ["ekfac-ref", "judge", str(options.folder)]
    words += [word for law in options.law or () for word in ("--law", law)]
    words += ["--known", options.known[0]] if options.known else []
    as_of_check = argparse.Namespace(**vars(options))
    as_of_check.rerun, as_of_check.law = shlex.join(words), laws
    as_of_check.subject, as_of_check.max_fail = None, None
    as_of_check.seed = examiner.seed
    return put_on_trial(examiner, examiner.profile, as_of_check, printed)
