"""An environment for each library, and processes in it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers.libraries import Library

ROOT = Path(__file__).parent.parent
HOME = ROOT / ".venv-peers"
SECONDS = 300  # for one problem: where every new shape is compiled, it is a minute and more


def python_of(library: Library) -> Path:
    """The interpreter of its environment."""
    return HOME / library.module / "bin" / "python"


def installed(library: Library) -> str:
    """Make its environment unless it is there; "" or the reason why it cannot be."""
    done = HOME / library.module / "installed"
    if done.exists() and done.read_text() == " ".join(library.requirements):
        return ""
    subprocess.run([sys.executable, "-m", "venv", HOME / library.module], check=True)
    # torch by the repository's constraints: an unpinned one brings gigabytes on many machines.
    pip = [str(python_of(library)), "-m", "pip", "install", "--quiet", "--no-compile"]
    ours = ["--constraint", str(ROOT / "constraints.txt"), "--editable", str(ROOT)]
    ran = subprocess.run([*pip, *ours, *library.requirements], capture_output=True, text=True)
    if ran.returncode:
        return ran.stderr.strip().splitlines()[-1]
    done.write_text(" ".join(library.requirements))
    return ""


def checked(library: Library, subject: str, profile: str, seed: int) -> dict[str, Any]:
    """The report of ``ekfac-ref check`` on one of its subjects, which needs no problem's script."""
    out = HOME / f"{library.module}.{subject}.json"
    out.unlink(missing_ok=True)
    path = f"peers.adapters.{library.module}:{subject}"
    options = ["--profile", profile, "--seed", str(seed), "--json", str(out)]
    options += ["--seconds", str(SECONDS)]
    for law in library.laws.get(subject, ()):
        options += ["--law", law]
    options += ["--known", str(Path(__file__).with_name("manners.json"))]
    command = [str(python_of(library)), "-m", "ekfac_ref.cli", "check", path, *options]
    subprocess.run(command, cwd=ROOT, env=_surroundings(), capture_output=True)
    report = json.loads(out.read_text())
    if not report["complete"]:
        raise RuntimeError(f"{path}: the run ended before its end, {report['summary']}")
    return kept(report)


def kept(report: dict[str, Any]) -> dict[str, Any]:
    """What the board needs of a report."""
    alone = ("seed", "digest", "asked", "answered", "scoreboard")
    return {
        **{name: report[name] for name in alone},
        "causes": [_cause(cause) for cause in report["causes"]],
        "verdicts": [_only(v, "law", "status", "asked", "broken") for v in report["verdicts"]],
    }


def _cause(cause: dict[str, Any]) -> dict[str, Any]:
    """With the features of every problem, where there are none that tell it apart."""
    told = bool(cause["where"]) and cause["where"]["sure"]
    features = {} if told else {"features": cause["features"]}
    problems = {"problems": len(cause["problems"])}
    return _only(cause, "sentence", "where", "laws") | problems | features


def _only(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: entry[name] for name in names}


def script(library: Library, path: Path) -> str:
    """The last line that a finding's script prints, or what it ended with."""
    command = [str(python_of(library)), "-W", "ignore", str(path)]
    ran = subprocess.run(command, env=_surroundings(), capture_output=True, text=True)
    told = (ran.stdout if ran.returncode == 0 else ran.stderr).strip().splitlines()
    return told[-1] if told else f"nothing printed, exit code {ran.returncode}"


def _surroundings() -> dict[str, str]:
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **quiet}
