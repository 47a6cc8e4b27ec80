"""Hostile subjects: whole modules as text, and how a check of them has to end.

``python -m tests.support.hostile`` puts all of them on trial by the real command and writes
docs/hostile.md; a dozen of them are in the suite (tests/kit/test_hostile.py).
"""

import datetime
import platform
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.support.fresh import python

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "hostile.md"
# Each law is asked of each problem with one question, if it is this one.
ASKED = ["--profile", "demo", "--law", "trace", "--seconds", "3"]
PROBLEMS = 12


@dataclass(frozen=True)
class Hostile:
    """A subject, and the end that its trial has to come to.

    Attributes:
        name: of its module.
        does: what it does, in words.
        source: the module; ``ekfac`` is the subject.
        code: the exit code.
        says: what the report has to have in it, or the line on stderr where there is none.
    """

    name: str
    does: str
    source: str
    code: int
    says: str


_HEAD = """\
import atexit, builtins, ctypes, gc, itertools, os, resource, shutil, signal, subprocess, sys
import tempfile, threading, time, warnings

import torch

import ekfac_ref as ek

calls = 0
"""
_ALL = "trace │ pass    │       12"
_ALL_BUT_ONE = "trace │ pass    │       11"
_ONE_LOST = "1 of 12: "


def _imports(name: str, does: str, act: str, code: int, says: str, wrong: bool = False) -> Hostile:
    """Hostile when it is imported; it answers as the reference does, or twice that."""
    answer = "{n: E.scaled(2.0) for n, E in ek.ekfac(problem).items()}" if wrong else ""
    asks = f"def ekfac(problem):\n    return {answer or 'ek.ekfac(problem)'}\n"
    return Hostile(name, f"at import: {does}", f"{_HEAD}\n{act}\n\n{asks}", code, says)


def _third(name: str, does: str, act: str, code: int, says: str) -> Hostile:
    """Hostile at the third question, and the reference at all others.

    A process that was started anew counts from the beginning: a file says that it has happened.
    """
    return _asks(name, f"at the third question: {does}", act, code, says, "calls == 3")


def _asks(name: str, does: str, act: str, code: int, says: str, when: str) -> Hostile:
    source = f"""{_HEAD}
FIRST = not os.path.exists("happened")

def ekfac(problem):
    global calls
    calls += 1
    answer = ek.ekfac(problem)
    if FIRST and {when}:
        open("happened", "w").close()
        answer = act(problem, answer) or answer
    return answer

def act(problem, answer):
{textwrap.indent(textwrap.dedent(act), "    ")}
"""
    return Hostile(name, does, source, code, says)


class _Operators:
    """Acts that make other operators."""

    @staticmethod
    def of(body: str) -> str:
        return "class Wrong:\n    def __init__(self, one):\n        self.one = one\n" + (
            textwrap.indent(body, "    ") + "\nreturn {n: Wrong(E) for n, E in answer.items()}"
        )


_product = "def matvec(self, V):\n    return {}"


HOSTILE = (
    # at import
    _imports("exits-0", "os._exit(0)", "os._exit(0)", 3, "ended with exit code 0 when it was imp"),
    _imports("exits-1", "os._exit(1)", "os._exit(1)", 3, "ended with exit code 1 when it was imp"),
    _imports("sys-exit", "sys.exit(0)", "sys.exit(0)", 3, "its module exits when imported (Syst"),
    _imports("raises", "an exception", "raise ValueError('no')", 3, "cannot be imported (ValueErr"),
    _imports(
        "raises-unprintable",
        "an exception whose __str__ raises",
        "class Odd(Exception):\n    def __str__(self):\n        raise KeyError\nraise Odd",
        3,
        "cannot be imported (Odd, whose text cannot be told (it raised KeyError))",
    ),
    _imports("no-python", "a syntax error", "def (", 3, "cannot be imported (SyntaxError"),
    _imports("keyboard", "KeyboardInterrupt", "raise KeyboardInterrupt", 3, "(KeyboardInterrupt"),
    _imports(
        "sleeps", "time.sleep(3600)", "time.sleep(3600)", 3, "it took more than 3 s to import"
    ),
    _imports(
        "loops-in-c",
        "a loop inside C that keeps the interpreter's lock",
        "sum(itertools.repeat(0))",
        3,
        "it took more than 8 s and could not be interrupted when it was imported",
    ),
    _imports("segfault", "reads address 0", "ctypes.string_at(0)", 3, "was ended by SIGSEGV when"),
    _imports("aborts", "os.abort()", "os.abort()", 3, "was ended by SIGABRT when it was imported"),
    _imports(
        "replaces-torch",
        "torch.linalg.vector_norm returns 0",
        "torch.linalg.vector_norm = lambda *a, **k: torch.zeros(())",
        3,
        "it replaced torch.linalg.vector_norm, which the kit computes with",
    ),
    _imports(
        "replaces-disguised",
        "torch.equal is another function by the same name",
        "import functools\nold = torch.equal\n@functools.wraps(old)\n"
        "def equal(a, b):\n    return True\ntorch.equal = equal",
        3,
        "it replaced torch.equal, which the kit computes with",
    ),
    _imports(
        "replaces-method",
        "torch.Tensor.norm returns 0",
        "torch.Tensor.norm = lambda self, *a, **k: 0.0",
        3,
        "it replaced torch.Tensor.norm, which the kit computes with",
    ),
    _imports(
        "replaces-builtin",
        "builtins.max is min",
        "builtins.max = min",
        3,
        "it replaced builtins.max, which the kit computes with",
    ),
    _imports(
        "replaces-limit",
        "the kit's limit is infinite",
        "import ekfac_ref.conformance.truth.tolerance as t\nt.MISTAKE = float('inf')",
        3,
        "it replaced ekfac_ref.conformance.truth.tolerance.MISTAKE",
    ),
    _imports(
        "replaces-kit",
        "the kit's law finds nothing",
        "import ekfac_ref.conformance.laws.law as law\nlaw.notices = lambda *a: False",
        3,
        "it replaced ekfac_ref.conformance.laws.law.notices",
    ),
    _imports("float64", "default dtype float64", "torch.set_default_dtype(torch.float64)", 0, _ALL),
    _imports(
        "settings",
        "deterministic algorithms, eight threads, anomaly mode",
        "torch.use_deterministic_algorithms(True)\ntorch.set_num_threads(8)\n"
        "torch.autograd.set_detect_anomaly(True)",
        0,
        _ALL,
    ),
    _imports("warnings", "makes warnings errors", "warnings.simplefilter('error')", 0, _ALL),
    _imports("goes-away", "os.chdir('/')", "os.chdir('/')", 0, _ALL),
    _imports("closes-stdout", "sys.stdout.close()", "sys.stdout.close()", 0, _ALL),
    _imports("no-stdout", "sys.stdout = None", "sys.stdout = sys.stderr = None", 0, _ALL),
    _imports("closes-1-and-2", "os.close(1), os.close(2)", "os.close(1)\nos.close(2)", 0, _ALL),
    _imports(
        "closes-all", "os.closerange(3, 256)", "os.closerange(3, 256)", 3, "No verdict: it cou"
    ),
    _imports(
        "writes-everywhere",
        "writes to every descriptor",
        "for fd in range(3, 30):\n    try:\n        os.write(fd, b'nonsense\\n')\n"
        "    except OSError:\n        pass",
        3,
        "it wrote where the kit's own answers come",
    ),
    _imports("reads-stdin", "input()", "input()", 3, "cannot be imported (EOFError"),
    _imports(
        "parses-arguments",
        "argparse, as if it were a program",
        "import argparse\nargparse.ArgumentParser().parse_args()",
        0,
        _ALL,
    ),
    _imports("few-frames", "a recursion limit of 60", "sys.setrecursionlimit(60)", 0, _ALL),
    _imports(
        "little-memory",
        "no memory beyond what it has",
        "size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size, size))\nbytearray(1 << 30)",
        3,
        "cannot be imported (MemoryError",
    ),
    _imports("at-exit", "atexit: os._exit(0)", "atexit.register(os._exit, 0)", 0, _ALL),
    _imports(
        "at-exit-wrong",
        "atexit: os._exit(0), and it answers twice what is right",
        "atexit.register(os._exit, 0)",
        1,
        "It does not conform (broken: trace).",
        wrong=True,
    ),
    _imports(
        "thread",
        "a thread that never ends",
        "threading.Thread(target=lambda: [time.sleep(1) for _ in itertools.count()]).start()",
        0,
        _ALL,
    ),
    _imports(
        "thread-exits",
        "a thread that calls os._exit(0) after half a second",
        "threading.Timer(0.5, os._exit, (0,)).start()",
        3,
        "its process ended with exit code 0",
    ),
    _imports(
        "ignores-signals",
        "ignores SIGTERM, SIGHUP, SIGINT and SIGALRM",
        "for s in ('TERM', 'HUP', 'INT', 'ALRM'):\n"
        "    signal.signal(getattr(signal, 'SIG' + s), signal.SIG_IGN)",
        0,
        _ALL,
    ),
    _imports(
        "leaves-a-process",
        "leaves a process that sleeps and keeps stdout open",
        "subprocess.Popen(['sleep', '3600'])",
        0,
        _ALL,
    ),
    _imports(
        "leaves-a-session",
        "leaves a process in a session of its own",
        "subprocess.Popen(['sleep', '60'], start_new_session=True)",
        0,
        _ALL,
    ),
    _imports(
        "prints-much",
        "prints 100 MB",
        "for _ in range(100):\n    os.write(1, b'x' * 999999 + b'\\n')",
        0,
        "The subject printed",
    ),
    _imports("removes-itself", "removes its own file", "os.remove(__file__)", 0, _ALL),
    # at a question
    _asks(
        "exits-first",
        "at the first question: os._exit(0)",
        "os._exit(0)",
        3,
        "1 of 12: its process ended with exit code 0",
        "calls == 1",
    ),
    _third(
        "exits-third", "os._exit(0)", "os._exit(0)", 3, _ONE_LOST + "its process ended with exi"
    ),
    _third("segfault-third", "reads address 0", "ctypes.string_at(0)", 3, "was ended by SIGSEGV"),
    _third("aborts-third", "os.abort()", "os.abort()", 3, "its process was ended by SIGABRT"),
    _third("kills-itself", "SIGKILL", "os.kill(os.getpid(), 9)", 3, "was ended by SIGKILL"),
    _third("terminates", "SIGTERM", "os.kill(os.getpid(), 15)", 3, "was ended by SIGTERM"),
    _third("hangs-up", "SIGHUP", "os.kill(os.getpid(), 1)", 3, "was ended by SIGHUP"),
    _third(
        "interrupts", "SIGINT", "os.kill(os.getpid(), 2)\ntime.sleep(1)", 3, "KeyboardInterrupt"
    ),
    _third(
        "stops", "SIGSTOP", "os.kill(os.getpid(), 19)", 3, "took more than 8 s and could not be"
    ),
    _third(
        "kills-its-group",
        "SIGKILL to its process group",
        "os.killpg(0, 9)",
        3,
        "was ended by SIGKILL",
    ),
    _third(
        "loops-in-c-third",
        "a loop inside C",
        "sum(itertools.repeat(0))",
        3,
        "it took more than 8 s and could not be interrupted",
    ),
    _third(
        "catches-all",
        "sleeps, and catches whatever comes",
        "while True:\n    try:\n        time.sleep(60)\n    except BaseException:\n        pass",
        3,
        "it took more than 8 s and could not be interrupted",
    ),
    _third(
        "sleeps-third", "time.sleep(3600)", "time.sleep(3600)", 3, "1 of 12: it took more than 3"
    ),
    Hostile(
        "always-hangs",
        "at every question: time.sleep(3600)",
        f"{_HEAD}\ndef ekfac(problem):\n    time.sleep(3600)\n",
        3,
        "3 of 12 problems got no answer that laws could be asked of; it was asked no more",
    ),
    Hostile(
        "always-exits",
        "at every question: os._exit(0)",
        f"{_HEAD}\ndef ekfac(problem):\n    os._exit(0)\n",
        3,
        "3 of 12 problems got no answer that laws could be asked of; it was asked no more",
    ),
    _third(
        "raises-third",
        "an exception",
        "raise ValueError('no')",
        3,
        "Refuses 1 of 12 problems: it raised ValueErr",
    ),
    _third(
        "raises-unprintable-third",
        "an exception whose __str__ and __repr__ raise",
        "class Odd(Exception):\n    def __str__(self):\n        raise KeyError\n"
        "    __repr__ = __str__\nraise Odd",
        3,
        "Refuses 1 of 12 problems: it raised Odd, whose text cannot be told (it raised KeyError)",
    ),
    _third(
        "raises-and-exits",
        "an exception whose __str__ calls os._exit(0)",
        "class Odd(Exception):\n    def __str__(self):\n        os._exit(0)\nraise Odd",
        3,
        "1 of 12: its process ended with exit code 0",
    ),
    _third(
        "raises-much", "a text of 100 MB", "raise ValueError('x' * 10**8)", 3, "ValueError: xxx"
    ),
    _third(
        "raises-markup",
        "a text with markup and escape codes",
        "raise ValueError('[red]\\x1b[2J</pre>')",
        3,
        "it raised ValueError: [red]\\x1b[2J</pre>",
    ),
    _third(
        "system-exit", "SystemExit(0)", "raise SystemExit(0)", 3, "1 of 12: it raised SystemExit"
    ),
    _third(
        "base", "a BaseException", "raise BaseException('no')", 3, "it raised BaseException: no"
    ),
    _third("memory", "MemoryError", "raise MemoryError", 3, "1 of 12: it raised MemoryError"),
    _third(
        "recursion",
        "calls itself for ever",
        "def f():\n    return f()\nf()",
        3,
        "1 of 12: it raised RecursionError",
    ),
    _third(
        "recursion-limit",
        "a recursion limit of 100",
        "sys.setrecursionlimit(100)",
        0,
        _ALL,
    ),
    _third("none", "returns 7", "return 7", 3, "ekfac returned int, expected a dict of"),
    _third("names", "other names", "return {'no': 1}", 3, "ekfac returned ['no'], expected a dict"),
    _third("numbers", "names that are numbers", "return {1: 2, 'a': 3}", 3, "it raised TypeError"),
    _third(
        "keys",
        "a dict whose keys() raises",
        "class D(dict):\n    def keys(self):\n        raise ZeroDivisionError\nreturn D(answer)",
        3,
        "it raised ZeroDivisionError",
    ),
    _third(
        "no-matvec",
        "operators without matvec",
        "return dict.fromkeys(answer, 5)",
        3,
        "it raised AttributeError: 'int' object has no attribute 'matvec'",
    ),
    _third(
        "matvec-raises",
        "matvec raises",
        _Operators.of(_product.format("1 / 0")),
        3,
        "1 of 12: the adapter crashed: ZeroDivisionError",
    ),
    _third(
        "matvec-exits",
        "matvec calls os._exit(0)",
        _Operators.of(_product.format("os._exit(0)")),
        3,
        "its process ended with exit code 0",
    ),
    _third(
        "property",
        "matvec is a property that raises",
        _Operators.of("@property\ndef matvec(self):\n    raise OSError('no disk')"),
        3,
        "it raised OSError: no disk",
    ),
    _third(
        "nan",
        "NaN",
        _Operators.of(_product.format("V * float('nan')")),
        3,
        "matvec returned NaN or infinity",
    ),
    _third(
        "complex",
        "E V + 1000 i",
        _Operators.of(_product.format("self.one.matvec(V) + 1000j")),
        3,
        "matvec returned numbers of torch.complex",
    ),
    _third(
        "shape",
        "E V as a vector",
        _Operators.of(_product.format("self.one.matvec(V).reshape(-1)")),
        3,
        "matvec returned shape [",
    ),
    _third(
        "meta",
        "tensors without numbers",
        _Operators.of(_product.format("V.to('meta')")),
        3,
        "matvec returned a tensor on meta",
    ),
    _third(
        "sparse",
        "sparse tensors",
        _Operators.of(_product.format("self.one.matvec(V).to_sparse()")),
        3,
        "matvec returned numbers of torch.sparse_coo",
    ),
    _third(
        "blocks",
        "blocks that are a number",
        _Operators.of("blocks = 5\n" + _product.format("self.one.matvec(V)")),
        3,
        "it raised TypeError: 'int' object is not iterable",
    ),
    _third("prints", "prints 100 MB", "for _ in range(100):\n    print('x' * 999999)", 0, _ALL),
    _third("closes", "sys.stdout.close()", "sys.stdout.close()", 0, _ALL),
    _third("goes", "os.chdir('/')", "os.chdir('/')", 0, _ALL),
    _third(
        "sets-float64", "default dtype float64", "torch.set_default_dtype(torch.float64)", 0, _ALL
    ),
    _third(
        "no-gradients", "torch.set_grad_enabled(False)", "torch.set_grad_enabled(False)", 0, _ALL
    ),
    _third("warns", "makes warnings errors", "warnings.simplefilter('error')", 0, _ALL),
    _third(
        "blocks-alarm",
        "blocks every signal, and sleeps",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\ntime.sleep(3600)",
        3,
        "it took more than 8 s and could not be interrupted",
    ),
    _third(
        "replaces-third",
        "torch.linalg.vector_norm returns 0",
        "torch.linalg.vector_norm = lambda *a, **k: torch.zeros(())",
        3,
        "1 of 12: it replaced torch.linalg.vector_norm",
    ),
    _third(
        "forks-and-exits",
        "leaves a fork of itself, which sleeps, and calls os._exit(0)",
        "if os.fork():\n    os._exit(0)\ntime.sleep(3600)",
        3,
        "1 of 12: its process ended with exit code 0",
    ),
    _third(
        "writes-depth",
        "writes lists in lists where answers come",
        "for fd in range(3, 30):\n    try:\n        os.write(fd, b'[' * 60000 + b'\\n')\n"
        "    except OSError:\n        pass",
        3,
        "1 of 12: it wrote where the kit's own answers come",
    ),
    _third("forks", "os.fork(), and both go on", "os.fork()", 0, _ALL),
    _third(
        "removes-folder",
        "removes the folder that the kit keeps its own things in",
        "shutil.rmtree(os.environ['HYPOTHESIS_STORAGE_DIRECTORY'])",
        0,
        _ALL,
    ),
    # after the last question
    Hostile(
        "exits-later",
        "answers twice what is right, and calls os._exit(0) once the problems are through",
        f"{_HEAD}\ndef ekfac(problem):\n    global calls\n    calls += 1\n"
        "    if calls > 12 or os.path.exists('later'):\n        open('later', 'w').close()\n"
        "        os._exit(0)\n"
        "    return {n: E.scaled(2.0) for n, E in ek.ekfac(problem).items()}\n",
        1,
        "It does not conform (broken: trace).",
    ),
    Hostile(
        "exits-unsharpened",
        "is right, and calls os._exit(0) once the problems are through",
        f"{_HEAD}\ndef ekfac(problem):\n    global calls\n    calls += 1\n"
        "    if calls > 12 or os.path.exists('later'):\n        open('later', 'w').close()\n"
        "        os._exit(0)\n"
        "    return ek.ekfac(problem)\n",
        5,
        "Beside the verdict: what a law would notice: when it was asked once more, its process end",
    ),
)


def put_on_trial(hostile: Hostile, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The real command in a folder with nothing but the subject."""
    name = "hostile_" + hostile.name.replace("-", "_")
    (folder / f"{name}.py").write_text(hostile.source)
    arguments = ["-m", "ekfac_ref.cli", "check", f"{name}:ekfac", *ASKED, "--json", "out.json"]
    return python(folder, *arguments, path=ROOT)


def first_line(ran: "subprocess.CompletedProcess[str]", hostile: Hostile) -> str:
    """The line that says it."""
    lines = [*ran.stdout.splitlines(), *ran.stderr.splitlines()]
    return next((line for line in lines if hostile.says in line), "(not said)")


def main(names: list[str]) -> int:
    """All of them, or those named, whose rows replace the page's; written whatever comes out."""
    chosen = [hostile for hostile in HOSTILE if not names or hostile.name in names]
    rows = dict(zip([hostile.name for hostile in HOSTILE], written(), strict=True)) if names else {}
    failures = 0

    def trial(hostile: Hostile) -> "subprocess.CompletedProcess[str]":
        with tempfile.TemporaryDirectory() as folder:
            return put_on_trial(hostile, Path(folder))

    for hostile, ran in zip(chosen, ThreadPoolExecutor(2).map(trial, chosen), strict=True):
        line = first_line(ran, hostile).strip()
        right = ran.returncode == hostile.code and hostile.says in ran.stdout + ran.stderr
        failures += not right
        verdict = "as it should" if right else "WRONG"
        print(f"{verdict:<13}{hostile.name:<28}{ran.returncode}  {line[:90]}", flush=True)
        if not right:
            print(textwrap.indent((ran.stdout + ran.stderr)[-3000:], "    "))
        said = " ".join(line.replace("│", " ").split())[:160].replace("|", "\\|")
        rows[hostile.name] = f"| {hostile.does} | {ran.returncode} | `{said}` |"
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    when = f"{datetime.date.today()}, {versions}, {platform.system()}"
    PAGE.write_text(_PAGE.format(count=len(rows), when=when, rows="\n".join(rows.values())))
    print(f"{len(chosen)} subjects, {failures} not as they should; written: {PAGE}")
    return bool(failures)


def written() -> list[str]:
    """The rows of the page."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]


_PAGE = """\
# Hostile subjects

Back to the [README](../README.md).

`ekfac-ref check` imports the subject into a process of its own, asks it there, and makes the
verdict here. Its exit codes, the first that applies:

- 2: wrong usage
- 6: the kit itself failed, which is no fault of the subject's, and no verdict; please report it
- 3: a problem got no answer that laws could be asked of: a bad one, a crash of the adapter, none in
  time; or there is no asking the subject. Also, where no law is broken: too few were answered for a
  verdict, and the others refused by exceptions
- 4: not all was asked: an interrupt, SIGTERM and SIGHUP end a run so, and the report says how far
  it came
- 1: it does not conform
- 5: inconclusive
- 0: it conforms
- 141, instead of any of these: nobody read the report to its end (`ekfac-ref check ... | head`), or
  there was no room for it. That is no verdict; files are written all the same

A file that cannot be written is told on stderr, and changes nothing. Files are written while the
run goes on, so that one whose command was killed says that the run is not complete. A subject on
which three problems in a row are lost is asked no more.

A function of torch, of Python's or of the kit's own that the subject has replaced is found by its
identity, and ends the trust in that process; a subject that is determined to deceive can hide that,
and no report of a program that runs its code can be proof against it. From Python and in pytest,
and with `--in-process`, the subject is asked in the process at hand, which it can end:

```python
from ekfac_ref import conformance as ct

few = ct.Profile("few", problems=2, shrink_seconds=0.1)
report = ct.check(ct.load("ekfac_ref.examples:reference"), few, laws=["trace"])
print(report.exit_code, report.apart)
```

```text
0 False
```

What becomes of a check whose subject does its worst? `make hostile` puts these {count} on trial by
the real command, on 12 problems with 3 seconds for each, and writes this page
({when}). Every one ends with a report, and at the third question
nothing is lost but the verdict on that problem. An exception is a refusal, and no fault; but one
problem of 12 that is refused leaves too few.

| what the subject does | exit code | said |
|---|---|---|
{rows}
"""

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
