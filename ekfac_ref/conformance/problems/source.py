"""A problem as Python that runs alone: the model, its values, the data, and a law asked of it."""

import inspect
import textwrap
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ekfac_ref.conformance.problems import networks
from ekfac_ref.question.problem import Problem

WIDTH = 96
# A piece of source: a text, or an opening bracket, the pieces between commas, a closing one.
Piece = str | tuple[str, list[Any], str]


def script(problem: Problem, law: str | None, subject: str | None) -> str:
    """Source that rebuilds the problem and asks the law of it, or without one every law.

    It prints ``{law: None where it holds, LawBroken where not}``. ``subject`` is what ``ekfac-ref
    check`` takes; None leaves the line to the reader.
    """
    code = _Code(problem.dtype)
    loaded = "...  # yours" if subject is None else f"ct.load({subject!r})"
    laws = "" if law is None else f", [{law!r}]"
    lines = [
        *("import torch", "from torch import nn", ""),
        *("import ekfac_ref as ek", "from ekfac_ref import conformance as ct", ""),
        *code.helper(),
        *code.model(problem.model),
        "",
        *code.data(problem),
        "",
        *code.problem(problem),
        "",
        f"subject = {loaded}",
        f"print(ct.ask(subject, problem{laws}))",
    ]
    return "\n".join(lines) + "\n"


class _Code:
    """Source in pieces, floats in one dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def helper(self) -> list[str]:
        """Lines that state the dtype, and a function that makes tensors of it."""
        return [
            f"dtype = {self.dtype}",
            "",
            "",
            "def floats(values):",
            "    return torch.tensor(values, dtype=dtype)",
            "",
            "",
        ]

    def model(self, model: nn.Module) -> list[str]:
        """Lines that make the model: its constructor, then what is shared, then its values."""
        mode = "train" if model.training else "eval"
        lines = [*_laid_out(self._call(model), "model = "), f"model.to(dtype).{mode}()"]
        lines += [
            f"model.set_submodule({name!r}, model.get_submodule({first!r}))"
            for first, name in _twice(model.named_modules(remove_duplicate=False))
        ]
        for first, name in _twice(model.named_parameters(remove_duplicate=False)):
            owner, _, attribute = name.rpartition(".")
            lines.append(
                f"model.get_submodule({owner!r}).{attribute} = model.get_parameter({first!r})  "
                "# tied"
            )
        values = list(model.named_parameters())
        lines += [
            f"model.get_parameter({name!r}).requires_grad_(False)"
            for name, parameter in values
            if not parameter.requires_grad
        ]
        lines.append("with torch.no_grad():")
        for name, parameter in values:
            before = f"    model.get_parameter({name!r})"
            value = self._tensor(parameter.detach())
            lines += _laid_out((".copy_(", [value], ")"), before, indent=4)
        return lines

    def data(self, problem: Problem) -> list[str]:
        """Lines that make the list of batches, numbers written out."""
        batches: list[Piece] = [("(", [self._value(v) for v in b], ")") for b in problem.batches]
        return _laid_out(("[", batches, "]"), "batches = ")

    def problem(self, problem: Problem) -> list[str]:
        """Lines that make the Problem of model, batches and choices."""
        arguments: list[Piece] = ["model", "batches", self._call(problem.likelihood)]
        arguments += [("fisher=", [self._call(problem.fisher)], "")]
        arguments += [("sharing=", [self._call(problem.sharing)], "")]
        if problem.layers is not None:
            arguments.append(f"layers={tuple(problem.layers)!r}")
        if problem.mask is not None:
            arguments.append('mask=lambda inputs: inputs["mask"]')
        return _laid_out(("ek.Problem(", arguments, ")"), "problem = ")

    def _call(self, thing: Any) -> Piece:
        """The constructor's call, by its signature: attributes have its parameters' names."""
        kind = type(thing)
        if kind is nn.Sequential:
            return ("nn.Sequential(", [self._call(child) for child in thing], ")")
        arguments: list[Piece] = []
        for name, parameter in inspect.signature(kind).parameters.items():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if not hasattr(thing, name):  # dtype, device and the like: told in another way
                continue
            value = _argument(name, getattr(thing, name))
            if parameter.default is inspect.Parameter.empty:
                arguments.append(self._call(value) if isinstance(value, nn.Module) else repr(value))
            elif value != parameter.default:
                arguments.append(f"{name}={value!r}")
        return (f"{self._name(kind)}(", arguments, ")")

    def _name(self, kind: type) -> str:
        if getattr(nn, kind.__name__, None) is kind:
            return f"nn.{kind.__name__}"
        if kind.__module__ == networks.__name__:
            return f"ct.networks.{kind.__name__}"
        return f"ek.{kind.__name__}"

    def _value(self, value: Any) -> Piece:
        """Inputs or targets: a tensor, or a tuple or dict of them."""
        if isinstance(value, dict):
            items: list[Piece] = [(f"{k!r}: ", [self._value(v)], "") for k, v in value.items()]
            return ("{", items, "}")
        if isinstance(value, tuple):
            return ("(", [self._value(v) for v in value], ",)" if len(value) == 1 else ")")
        return self._tensor(value)

    def _tensor(self, x: Tensor) -> Piece:
        if x.numel() == 0:
            return f"torch.zeros({tuple(x.shape)}, dtype={x.dtype})"
        if x.dtype == self.dtype:
            return ("floats(", [_nested(x.tolist())], ")")
        if x.dtype in (torch.int64, torch.bool):  # what torch makes of such a list anyway
            return ("torch.tensor(", [_nested(x.tolist())], ")")
        return ("torch.tensor(", [_nested(x.tolist()), f"dtype={x.dtype}"], ")")


def _twice(named: Iterable[tuple[str, Any]]) -> list[tuple[str, str]]:
    """(first name, other name) of everything that has several."""
    first: dict[int, str] = {}
    return [
        (first[id(thing)], name)
        for name, thing in named
        if first.setdefault(id(thing), name) != name
    ]


def _argument(name: str, value: Any) -> Any:
    """An attribute as the argument that it came from."""
    if name == "bias":  # a parameter or None
        return value is not None
    if isinstance(value, tuple) and len(set(value)) == 1:
        return value[0]  # the same on every axis
    return value


def _nested(values: Any) -> Piece:
    if not isinstance(values, list):
        return repr(values)
    return ("[", [_nested(value) for value in values], "]")


def _flat(piece: Piece) -> str:
    if isinstance(piece, str):
        return piece
    opening, inner, closing = piece
    return f"{opening}{', '.join(_flat(part) for part in inner)}{closing}"


def _laid_out(piece: Piece, before: str, indent: int = 0, after: str = "") -> list[str]:
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
    if all(isinstance(part, str) for part in inner) and opening == "[":
        numbers = _flat(("", inner, ""))
        filled = textwrap.wrap(numbers, WIDTH - indent - 4, break_on_hyphens=False)
        lines = [space + line for line in filled]
    else:
        lines = []
        for part in inner:
            lines += _laid_out(part, space, indent + 4, ",")
    return [before + opening, *lines, " " * indent + closing + after]
