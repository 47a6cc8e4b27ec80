"""What does not fit a JSON schema, as far as the schemas here go: no library is asked for that."""

from typing import Any

KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def misfits_of_schema(value: Any, schema: dict[str, Any], at: str = "") -> list[str]:
    """Where the value does not fit."""
    if "oneOf" in schema:
        fitting = [one for one in schema["oneOf"] if not misfits_of_schema(value, one, at)]
        return [] if len(fitting) == 1 else [f"{at}: fits {len(fitting)} of oneOf"]
    if "const" in schema and value != schema["const"]:
        return [f"{at}: {value!r} is not {schema['const']!r}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at}: {value!r} is none of {schema['enum']}"]
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or (kind != "boolean" and value is True)):
        return [f"{at}: a {type(value).__name__} is no {kind}"]
    found = []
    if kind == "array":
        for number, one in enumerate(value):
            found += misfits_of_schema(one, schema.get("items", {}), f"{at}/{number}")
    if kind == "object":
        known = schema.get("properties", {})
        found += [
            f"{at}: {name} is missing" for name in schema.get("required", []) if name not in value
        ]
        if schema.get("additionalProperties") is False:
            found += [f"{at}: {name} is not known" for name in value if name not in known]
        for name, one in value.items():
            found += misfits_of_schema(one, known.get(name, {}), f"{at}/{name}")
    return found
