"""What a command needs beyond the package itself."""

from importlib.util import find_spec

# {extra: {module: what a reader would call it}}
_EXTRAS = {
    "demo": {"matplotlib": "matplotlib", "sklearn": "scikit-learn"},
    "report": {"jinja2": "jinja2", "matplotlib": "matplotlib"},
    "bench": {"curvlinops": "curvlinops", "nngeometry": "nngeometry"},
}


def missing(extra: str) -> str:
    """What is not installed of an extra, "this and that"; "" where all is there."""
    return " and ".join(
        name for module, name in _EXTRAS[extra].items() if find_spec(module) is None
    )
