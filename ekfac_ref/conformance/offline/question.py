r"""One question as JSON: a network, its data, what is asked; and the key that answers repeat."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ekfac_ref.conformance.offline.network import NoOperation, nodes_of
from ekfac_ref.errors import ProblemError
from ekfac_ref.model.forward import algebra_dtype
from ekfac_ref.model.layers import Layer
from ekfac_ref.model.layers_of import layers_of
from ekfac_ref.question.columns import Empirical
from ekfac_ref.question.likelihoods import Categorical
from ekfac_ref.question.problem import Problem
from ekfac_ref.question.sharing import Expand

QUESTION_FORMAT, QUESTION_VERSION = "ekfac-ref question", 1
# (seed of V, damping) of what is to be solved, as laws ask for it.
SOLVED = ((1, 1e-6), (1, 1.0), (2, 1.0))


def as_question(problem: Problem, solved: bool = False) -> dict[str, Any]:
    """The problem as JSON has it, its key included; NoOperation where it cannot be written.

    What the problem is about is told by values alone, so that problems that are equal have one key.
    ``solved`` is whether vectors to solve for are asked about, too.
    """
    layers = _layers(problem)
    layer_of = {layer.parameters[0]: layer.name for layer in layers}
    (first, _), *_ = problem.batches
    names = list(_named(first))
    model = problem.model
    nodes, parameters = nodes_of(model, [name for name in names if name != "mask"], layer_of)
    question: dict[str, Any] = {
        "format": QUESTION_FORMAT,
        "version": QUESTION_VERSION,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "likelihood": type(problem.likelihood).__name__,
        "fisher": "empirical" if isinstance(problem.fisher, Empirical) else "exact",
        "sharing": "expand" if isinstance(problem.sharing, Expand) else "reduce",
        "layers": [_layer(layer) for layer in layers]
        or [{"name": name} for name in problem.layers or ()],
        "network": nodes,
        "parameters": {name: numbers(p) for name, p in parameters.items()},
        "batches": [_batch(problem, inputs, targets) for inputs, targets in problem.batches],
    }
    if solved:
        question["solve"] = [
            {"V": _vectors(layers, seed, problem), "damping": d} for seed, d in SOLVED
        ]
    if isinstance(problem.likelihood, Categorical):
        question["class_axis"] = problem.likelihood.class_axis
        question["ignore_index"] = problem.likelihood.ignore_index
    return {"key": key_of(question), **question}


def key_of(question: Mapping[str, Any]) -> str:
    """Sixteen letters that tell questions apart, of all but the key itself and what is solved."""
    rest = {name: value for name, value in question.items() if name not in ("key", "solve")}
    text = json.dumps(rest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def numbers(x: Tensor) -> Any:
    """Nested lists; what is no number in JSON is a text: "NaN", "Infinity", "-Infinity"."""
    values = x.detach()
    values = values.double() if values.dtype.is_floating_point else values
    if not values.dtype.is_floating_point or bool(values.isfinite().all()):
        return values.tolist()
    return _texts(values.tolist())


def _texts(values: Any) -> Any:
    if isinstance(values, list):
        return [_texts(value) for value in values]
    if values != values:
        return "NaN"
    return values if abs(values) != float("inf") else "Infinity" if values > 0 else "-Infinity"


def block_vectors(layer: Layer, seed: int, dtype: torch.dtype) -> list[Float[Tensor, "d_out d_in"]]:
    """V of every group, as laws draw it."""
    d_out, d_in = layer.shape
    shape = d_out // layer.groups, d_in
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return [drawn.to(algebra_dtype(dtype)) for _ in range(layer.groups)]


def _layers(problem: Problem) -> tuple[Layer, ...]:
    """Those that are asked about; none where there is no such layer, which is to be refused."""
    try:
        return layers_of(problem)
    except ProblemError:
        return ()


def _layer(layer: Layer) -> dict[str, Any]:
    has_bias = layer.bias is not None
    return {"name": layer.name, "shape": list(layer.shape), "groups": layer.groups,
            "bias": has_bias}  # fmt: skip


def _vectors(layers: tuple[Layer, ...], seed: int, problem: Problem) -> dict[str, Any]:
    """{layer: V of each group}."""
    return {
        layer.name: [numbers(V) for V in block_vectors(layer, seed, problem.dtype)]
        for layer in layers
    }


def _named(inputs: Any) -> dict[str, Tensor]:
    """Inputs by name: x; or x1 and x2; or as they are named."""
    if isinstance(inputs, Tensor):
        return {"x": inputs}
    if isinstance(inputs, Mapping):
        return dict(inputs)
    return {f"x{number}": x for number, x in enumerate(inputs, 1)}


def _batch(problem: Problem, inputs: Any, targets: Tensor) -> dict[str, Any]:
    given = {name: numbers(x) for name, x in _named(inputs).items() if name != "mask"}
    counted = None if problem.mask is None else problem.mask(inputs)
    told = _named(inputs).get("mask")
    if (counted is None) != (told is None):
        raise NoOperation("a mask that the model does not get")
    return {
        "inputs": given,
        "targets": numbers(targets),
        "mask": None if counted is None else numbers(counted),
    }
