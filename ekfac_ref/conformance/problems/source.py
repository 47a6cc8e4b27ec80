"""A problem as Python that runs alone: the model, its values, the data, and a question about it."""

import inspect
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.problems import networks
from ekfac_ref.conformance.problems.designed.batching import held, loader_options
from ekfac_ref.question.problem import Problem

WIDTH = 96
# Source to be laid out: a text, or an opening bracket, the parts between commas, a closing one.
_Piece = str | tuple[str, list[Any], str]


def script(problem: Problem, law: str | None, subject: str | None) -> str:
    """Source that rebuilds the problem and prints what ``ask`` finds: {law: None or LawBroken}.

    ``law`` is the name of the only one to ask, None for all of them. ``subject`` is what
    ``ekfac-ref check`` takes; None leaves a line to the reader.
    """
    return Written.of(problem).script(law, subject)


@dataclass(frozen=True, eq=False)
class Written:
    """A problem as text, which goes from one process to another where the problem cannot.

    Attributes:
        text: Python that makes ``problem``.
    """

    text: str

    @classmethod
    def of(cls, problem: Problem) -> "Written":
        """The problem's text; ``rebuilt`` is the problem itself then."""
        lines = [*_problem(problem), ""]
        written = cls(_HEADER.format(dtype=problem.dtype) + "\n".join(lines) + "\n")
        written.__dict__["rebuilt"] = problem
        return written

    @cached_property
    def rebuilt(self) -> Problem:
        """The problem that the text makes. It is run: it has to be the kit's own."""
        namespace: dict[str, Any] = {}
        exec(self.text, namespace)
        problem: Problem = namespace["problem"]
        return problem

    def script(self, law: str | None, subject: str | None) -> str:
        """With a question behind it, as ``script`` puts it."""
        return self.text + "\n".join(_question(law, subject)) + "\n"


_HEADER = """\
import torch
from torch import nn

import ekfac_ref as ek
from ekfac_ref import conformance as ct

dtype = {dtype}


def floats(values):
    return torch.tensor(values, dtype=dtype)


"""


def _problem(problem: Problem) -> list[str]:
    """The model, the batches, the record."""
    dtype = problem.dtype
    arguments: list[_Piece] = ["model", "batches", _call(problem.likelihood)]
    arguments += [("fisher=", [_call(problem.fisher)], "")]
    arguments += [("sharing=", [_call(problem.sharing)], "")]
    if problem.layers is not None:
        arguments.append(f"layers={tuple(problem.layers)!r}")
    if problem.mask is not None:
        arguments.append('mask=lambda inputs: inputs.get("mask")')
    return [
        *(*_model(problem.model, dtype), ""),
        *(*_laid_out(_batches(problem.batches, dtype), "batches = "), ""),
        *_laid_out(("ek.Problem(", arguments, ")"), "problem = "),
    ]


def _batches(batches: Any, dtype: torch.dtype) -> _Piece:
    """A list of them, or a DataLoader over a list of samples."""
    pairs: _Piece = ("[", [("(", [_value(v, dtype) for v in b], ")") for b in held(batches)], "]")
    if (options := loader_options(batches)) is None:
        return pairs
    told = [f"{name}={value!r}" for name, value in options.items()]
    return ("torch.utils.data.DataLoader(", [pairs, *told, "generator=torch.Generator()"], ")")


def _model(model: nn.Module, dtype: torch.dtype) -> list[str]:
    """The constructor, then what is shared, then values."""
    mode = "train" if model.training else "eval"
    lines = [*_laid_out(_call(model), "model = "), f"model.to(dtype).{mode}()"]
    lines += [
        f"model.set_submodule({name!r}, model.get_submodule({first!r}))"
        for first, name in _twice(model.named_modules(remove_duplicate=False))
    ]
    for first, name in _twice(model.named_parameters(remove_duplicate=False)):
        owner, _, attribute = name.rpartition(".")
        tied = f"model.get_submodule({owner!r}).{attribute} = model.get_parameter({first!r})"
        lines.append(f"{tied}  # tied")
    parameters = list(model.named_parameters())
    lines += [
        f"model.get_parameter({name!r}).requires_grad_(False)"
        for name, parameter in parameters
        if not parameter.requires_grad
    ]
    lines.append("with torch.no_grad():")
    for name, parameter in parameters:
        copied = (".copy_(", [_tensor(parameter.detach(), dtype)], ")")
        lines += _laid_out(copied, f"    model.get_parameter({name!r})", indent=4)
    for name, buffer in model.named_buffers():
        if buffer.dtype.is_floating_point:  # a norm also counts its batches, for training
            copied = (".copy_(", [_tensor(buffer, dtype)], ")")
            lines += _laid_out(copied, f"    model.get_buffer({name!r})", indent=4)
    return lines


def _question(law: str | None, subject: str | None) -> list[str]:
    loaded = "...  # yours" if subject is None else f"ct.load({subject!r})"
    laws = "" if law is None else f", [{law!r}]"
    return [f"subject = {loaded}", f"print(ct.ask(subject, problem{laws}))"]


def _call(thing: Any) -> _Piece:
    """The constructor's call, by its signature: attributes have its parameters' names."""
    kind = type(thing)
    if kind is nn.Sequential:
        return ("nn.Sequential(", [_call(child) for child in thing], ")")
    arguments: list[_Piece] = []
    for name, parameter in inspect.signature(kind).parameters.items():
        # dtype, device and the like are no attributes: they are told in another way.
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or not hasattr(
            thing, name
        ):
            continue
        value = _argument(name, getattr(thing, name))
        if parameter.default is inspect.Parameter.empty:
            arguments.append(_call(value) if isinstance(value, nn.Module) else repr(value))
        elif value != parameter.default:
            arguments.append(f"{name}={value!r}")
    homes = {nn: "nn", networks: "ct.networks"}
    home = next((homes[m] for m in homes if getattr(m, kind.__name__, None) is kind), "ek")
    return (f"{home}.{kind.__name__}(", arguments, ")")


def _argument(name: str, value: Any) -> Any:
    """An attribute as the argument that it came from."""
    if name == "bias":  # a parameter or None
        return value is not None
    if isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]  # the same on every axis
    return value


def _twice(named: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    """(first name, other name) of everything that has several."""
    first: dict[int, str] = {}
    return [
        (first[id(thing)], name)
        for name, thing in named
        if first.setdefault(id(thing), name) != name
    ]


def _value(value: Any, dtype: torch.dtype) -> _Piece:
    """Inputs or targets: a tensor, or a tuple or dict of them."""
    if isinstance(value, dict):
        return ("{", [(f"{k!r}: ", [_value(v, dtype)], "") for k, v in value.items()], "}")
    if isinstance(value, tuple):
        return ("(", [_value(v, dtype) for v in value], ",)" if len(value) == 1 else ")")
    return _tensor(value, dtype)


def _tensor(x: Tensor, dtype: torch.dtype) -> _Piece:
    if x.numel() == 0:
        return f"torch.zeros({tuple(x.shape)}, dtype={x.dtype})"
    if x.dtype == dtype:
        return ("floats(", [_nested(x.tolist())], ")")
    # What torch makes of such a list anyway needs no dtype.
    told = [] if x.dtype in (torch.int64, torch.bool) else [f"dtype={x.dtype}"]
    return ("torch.tensor(", [_nested(x.tolist()), *told], ")")


def _nested(values: Any) -> _Piece:
    if not isinstance(values, list):
        return repr(values)
    return ("[", [_nested(value) for value in values], "]")


def _laid_out(piece: _Piece, before: str, indent: int = 0, after: str = "") -> list[str]:
    """In one line where it fits, else one part to a line, and plain numbers filled up to the width.

    ``before`` stands in front of the first line, ``after`` behind the last.
    """
    line = f"{before}{_flat(piece)}{after}"
    if len(line) <= WIDTH or isinstance(piece, str):
        return [line]
    opening, inner, closing = piece
    if len(inner) == 1:  # nothing to choose: go on inside, in the same line
        return _laid_out(inner[0], before + opening, indent, closing + after)
    space = " " * (indent + 4)
    if opening == "[" and all(isinstance(part, str) for part in inner):
        numbers = textwrap.wrap(", ".join(inner), WIDTH - len(space), break_on_hyphens=False)
        lines = [space + line for line in numbers]
    else:
        lines = [line for part in inner for line in _laid_out(part, space, indent + 4, ",")]
    return [before + opening, *lines, " " * indent + closing + after]


def _flat(piece: _Piece) -> str:
    if isinstance(piece, str):
        return piece
    opening, inner, closing = piece
    return f"{opening}{', '.join(map(_flat, inner))}{closing}"
