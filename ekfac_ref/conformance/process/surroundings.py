"""What a subject shares with the kit in its process: functions it may replace, settings it may set.

A function that is replaced ends the trust in every number that is computed after it, whoever meant
what by it. Settings are put back before the next question.
"""

import builtins
import contextlib
import inspect
import math
import os
import signal
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch.nn import functional

_SHARED = (builtins, math, torch, torch.linalg, functional)
_TORCH = str(Path(torch.__file__).parent) + os.sep


class Functions:
    """The functions that the kit computes with, as they are at this moment: its own and torch's."""

    def __init__(self) -> None:
        own = [name for name in sys.modules if name.partition(".")[0] == "ekfac_ref"]
        self._modules = [sys.modules[name] for name in own]
        self._before = self._now()

    def replaced(self) -> str:
        """The name of one that is another by now; "" if there is none.

        What torch replaces by a function of its own is let pass.
        """
        now = self._now()
        for name, thing in now.items():
            if name in self._before:
                other = thing is not self._before[name]
            else:  # the place of a builtin, or of a method of the class behind, may be taken
                other = name.startswith(("ekfac_ref.", "torch.Tensor."))
            if other and (name.startswith("ekfac_ref.") or not _is_torchs(thing)):
                return name
        return next((name for name in self._before if name not in now), "")

    def _now(self) -> dict[str, Any]:
        found = {
            f"{place.__name__}.{name}": thing
            for place in _SHARED
            for name, thing in vars(place).items()
            if callable(thing) and not name.startswith("_") and not isinstance(thing, type)
        }
        for kind in reversed(torch.Tensor.__mro__[:-1]):
            found |= {f"torch.Tensor.{name}": x for name, x in vars(kind).items() if callable(x)}
        for module in self._modules:
            found |= _of_the_kit(module)
        return found


def _of_the_kit(module: ModuleType) -> dict[str, Any]:
    """All that a module of the kit's defines, with what its classes define."""
    found = {}
    for name, thing in vars(module).items():
        if not name.startswith("__") and not isinstance(thing, ModuleType):
            found[f"{module.__name__}.{name}"] = thing
        if inspect.isclass(thing) and thing.__module__ == module.__name__:
            found |= {
                f"{module.__name__}.{name}.{key}": value
                for key, value in vars(thing).items()
                if callable(value) or isinstance(value, property | classmethod | staticmethod)
            }
    return found


def _is_torchs(thing: Any) -> bool:
    """By the file of its code: a name can be copied."""
    return isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(_TORCH)


class Settings:
    """Settings of torch, Python and the process, as they are at this moment."""

    def __init__(self) -> None:
        self._dtype, self._device = torch.get_default_dtype(), torch.get_default_device()
        self._threads, self._grad = torch.get_num_threads(), torch.is_grad_enabled()
        self._deterministic = torch.are_deterministic_algorithms_enabled()
        self._warns = torch.is_deterministic_algorithms_warn_only_enabled()
        self._folder, self._recursion = os.getcwd(), sys.getrecursionlimit()
        self._signals = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._streams = sys.stdout, sys.stderr

    def put_back(self) -> None:
        """Set them all again, as far as that is possible."""
        sys.setrecursionlimit(self._recursion)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._signals)
        torch.set_default_dtype(self._dtype)
        if torch.get_default_device() != self._device:
            torch.set_default_device(self._device)
        torch.set_num_threads(self._threads)
        torch.set_grad_enabled(self._grad)
        torch.use_deterministic_algorithms(self._deterministic, warn_only=self._warns)
        torch.autograd.set_detect_anomaly(False)  # which looks for errors, and stops batched ones
        with contextlib.suppress(OSError):  # the folder may have gone
            os.chdir(self._folder)
        sys.stdout, sys.stderr = (
            os.fdopen(fd, "w", 1, closefd=False, errors="backslashreplace")
            if getattr(stream, "closed", False)  # None is one as well
            else stream
            for fd, stream in enumerate(self._streams, 1)
        )
