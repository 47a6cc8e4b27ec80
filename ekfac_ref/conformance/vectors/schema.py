"""The files of vectors, as a JSON schema (draft 2020-12): what a program that reads them finds."""

from typing import Any

_NUMBER = {"oneOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_STATUS = {"enum": ["valid", "undetermined", "refuse"]}
_TEXT = {"type": "string"}


def array_schema(axes: int, of: dict[str, Any], says: str) -> dict[str, Any]:
    """Nested lists with so many axes, of what another schema says."""
    found = of
    for _ in range(axes):
        found = {"type": "array", "items": found}
    return {**found, "description": says}


def object_schema(about: str, optional: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """An object with these properties and no others, all of them required but the optional ones."""
    return {
        "type": "object",
        "description": about,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


_VALUES = {
    "A": "[d_in, d_in], of the inputs: expand, (1/M) sum a a^T over the M positions that count; "
    "reduce, (1/N+) sum abar abar^T over the N+ samples that have any, abar their mean",
    "B": "[d_out, d_out], of the gradients: expand, (1/N) sum g g^T over samples, columns and "
    "positions; reduce, (1/N) sum ghat ghat^T, ghat the sum over positions",
    "F": "[P, P], P = d_out d_in: (1/N) sum_nc vec(G_nc) vec(G_nc)^T, G_nc = sum_t g_nct a_nt^T "
    "over the positions that count",
    "trace": "of F, and of every EKFAC",
    "moments": "[3, 3]: tr F (B^p (x) A^q) for p, q = 0, 1, 2; of every EKFAC, too",
    "KFAC": "[P, P]: B (x) A, B first",
    "Lambda": "[d_out, d_in]: (1/N) sum_nc [Q_B^T G_nc Q_A]^2 in the basis given, elementwise",
    "Lambda product": "[d_out, d_in]: Q_B (Lambda * (Q_B^T V Q_A)) Q_A^T, with Lambda as above",
    "Lambda solve": "[dampings, d_out, d_in]: Q_B ((Q_B^T V Q_A) / (Lambda + damping)) Q_A^T",
    "E": "[P, P]: the EKFAC, whose Q_B and Q_A are the eigenvectors of B and A",
    "F solve": "[dampings, d_out, d_in]: (F + damping I)^-1 vec V",
    "KFAC solve": "[dampings, d_out, d_in]: (B (x) A + damping I)^-1 vec V, the damping added once",
    "E solve": "[dampings, d_out, d_in]: (E + damping I)^-1 vec V",
}

_ANSWER = object_schema(
    "one answer; without a value where it is undetermined",
    ("why", "eigengap", "scale", "value"),
    status={"enum": ["valid", "undetermined"]},
    why=_TEXT,
    eigengap={
        "type": "number",
        "description": "of E: the smallest distance of two eigenvalues of A, or of B, over a bound "
        "on that factor; 0 where some coincide. Two zeros count as apart under expand, and where "
        "there is one position: no gradient lives between them",
    },
    scale={"description": "of roundings; a number, or one for each entry, or for each damping"},
    value={"description": "a number or nested lists"},
)

_BLOCK = object_schema(
    "one block: the layer, or its weight or bias alone",
    name={"enum": ["all", "weight", "bias"]},
    columns=array_schema(
        1, {"type": "integer"}, "[first, behind the last] of the inputs that it has"
    ),
    length={"type": "integer", "description": "by which roundings are counted"},
    Q_B=array_schema(2, {"type": "number"}, "[d_out, d_out], orthonormal columns; given"),
    Q_A=array_schema(2, {"type": "number"}, "[d_in, d_in], orthonormal columns; given"),
    V=array_schema(2, {"type": "number"}, "[d_out, d_in]; given"),
    dampings=array_schema(1, {"type": "number"}, "added to eigenvalues; given"),
    answers={
        "type": "object",
        "properties": {name: {**_ANSWER, "description": says} for name, says in _VALUES.items()},
        "required": list(_VALUES),
        "additionalProperties": False,
    },
)

_CASE = object_schema(
    "one vector. `refuse`: a program has to end in an error, and there are no blocks. "
    "`undetermined`: some answers have no one right value, the others do",
    ("blocks", "dampings"),
    id=_TEXT,
    status=_STATUS,
    why={"type": "string", "description": "of what is undetermined or refused"},
    says={"type": "string", "description": "what is special about the data"},
    sharing={"enum": ["expand", "reduce"]},
    bias={
        "enum": ["none", "joint", "separate"],
        "description": "with one, the last input is its 1 (0 where it is not used); separate makes "
        "two blocks, each with A, B, F of its own inputs alone",
    },
    a=array_schema(3, _NUMBER, "[N, T, d_in], inputs; what stands at other positions is no matter"),
    g=array_schema(4, _NUMBER, "[N, C, T, d_out], output gradients; no factor of N"),
    counted=array_schema(2, {"type": "boolean"}, "[N, T], which positions count"),
    dampings=array_schema(1, _NUMBER, "to solve with, of what is to be refused"),
    blocks={"type": "array", "items": _BLOCK},
)

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "ekfac-ref vectors, version 1: one family",
    **object_schema(
        "what a file holds; manifest.json lists the files, with their digests",
        format={"const": "ekfac-ref vectors"},
        version={"const": 1},
        family=_TEXT,
        says=_TEXT,
        cases={"type": "array", "items": _CASE},
    ),
}
