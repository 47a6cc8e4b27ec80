"""Questions and answers as a JSON schema (draft 2020-12), for programs that read and write them."""

from typing import Any

from ekfac_ref.conformance.vectors.schema import array_schema, object_schema

_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}
_NUMBER: dict[str, Any] = {"type": "number"}
_NAME = {"oneOf": [{"type": "string"}, {"enum": [None]}]}
_NUMBERS = {"description": "nested lists of numbers; NaN and infinities as texts"}

_OPTIONS = (
    *("layer", "weight", "bias", "stride", "dilation", "groups", "padding", "padding_mode"),
    *("output_padding", "padding_idx", "training", "scale", "shift", "value"),
)
_NODE = object_schema(
    "one operation",
    _OPTIONS,
    op={
        "enum": [
            *("linear", "bilinear", "embedding", "conv", "conv_transpose"),
            *("tanh", "sigmoid", "relu", "flatten", "mean", "masked_mean", "add_mean"),
            *("transpose", "softmax", "scale_shift", "add", "multiply", "matmul", "constant"),
            "batch_norm",
        ]
    },
    **{"in": array_schema(1, _TEXT, "values, or inputs, that it takes")},
    out={"type": "string", "description": "the name of its value"},
    layer={**_NAME, "description": "that is asked about and has this weight"},
    weight={"type": "string", "description": "name of a parameter"},
    bias={**_NAME, "description": "name of a parameter"},
    stride=array_schema(1, _WHOLE, "by axis"),
    dilation=array_schema(1, _WHOLE, "by axis"),
    groups=_WHOLE,
    padding={"description": "by axis; of conv [before, behind] each"},
    padding_mode={"enum": ["zeros", "reflect", "replicate", "circular"]},
    output_padding=array_schema(1, _WHOLE, "by axis"),
    padding_idx={"description": "the word that has no gradient, or null"},
    training={"const": True},
    scale=array_schema(1, _NUMBER, "of every channel on axis 1, or of all"),
    shift=array_schema(1, _NUMBER, "of every channel on axis 1, or of all"),
    value={"description": "[1, ...], of every sample; nested lists of numbers"},
)

_BATCH = object_schema(
    "one batch, axis 0 the samples",
    inputs={"type": "object", "description": "arrays by name"},
    targets=_NUMBERS,
    mask={"description": "[N, positions] of booleans, or null where all count"},
)

QUESTION_SCHEMA: dict[str, Any] = object_schema(
    "question.json",
    ("class_axis", "ignore_index", "solve"),
    key={"type": "string", "description": "to be repeated in the answer"},
    format={"const": "ekfac-ref question"},
    version={"const": 1},
    dtype={"enum": ["float64", "float32", "bfloat16"]},
    likelihood={"enum": ["Gaussian", "Categorical", "Bernoulli", "Poisson"]},
    fisher={"enum": ["exact", "empirical"]},
    sharing={"enum": ["expand", "reduce"]},
    layers={
        "type": "array",
        "items": object_schema(
            "to answer for; a name alone is that of no layer",
            ("shape", "groups", "bias"),
            name=_TEXT,
            shape=array_schema(1, _WHOLE, "[d_out, d_in] of all groups"),
            groups=_WHOLE,
            bias={"type": "boolean", "description": "whether the last input is the bias's 1"},
        ),
    },
    network={"type": "array", "items": _NODE},
    parameters={"type": "object", "description": "arrays by name"},
    batches={"type": "array", "items": _BATCH},
    class_axis=_WHOLE,
    ignore_index=_WHOLE,
    solve={
        "type": "array",
        "items": object_schema(
            "to be solved for",
            V={"type": "object", "description": "{layer: [d_out, d_in] of each group}"},
            damping={"type": "number"},
        ),
    },
)

FILES_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "ekfac-ref questions, version 1: question.json, answer.json, declared.json",
    "question": QUESTION_SCHEMA,
    "answer": {
        "type": "object",
        "description": "arrays by name, layer/way/group/part, and the key of the question",
        "properties": {"key": _TEXT},
        "required": ["key"],
    },
    "declared": object_schema(
        "declared.json, beside the manifest",
        ("name", "declines", "masks", "bias", "A"),
        name=_TEXT,
        declines=array_schema(1, _TEXT, "names of features that are refused"),
        masks={"type": "boolean"},
        bias={"enum": ["joint", "separate"]},
        A={"enum": ["per group", "shared"]},
    ),
}
