"""The libraries, their exact versions, what is asked of each, and which features they claim."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_CONVOLUTION = ("Conv2d", "stride", "dilation", "padding")


@dataclass(frozen=True)
class Library:
    """One library.

    Attributes:
        name: how the board calls it.
        module: of the adapter, in ``peers.adapters``.
        package, version: as pip knows it; versions are exact.
        subjects: in the adapter.
        offers: what it has of all that the kit asks about, in words.
        documented: where that and its conventions are written.
        claims: features that its documentation names as supported.
        beside: exact versions of what it needs, where a later one does not go with it.
        laws: {subject: those that alone it is asked}, if others of its library are asked the rest:
            where every answer takes long, what is asked on changed problems is most of the time.
    """

    name: str
    module: str
    package: str
    version: str
    subjects: tuple[str, ...]
    offers: str
    documented: str
    claims: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    laws: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def versions(self) -> str:
        """Its own, and those of what goes with it."""
        with_it = (one.replace("==", " ") for one in self.beside[:1])
        return ", ".join((self.version, *with_it))

    @property
    def requirements(self) -> tuple[str, ...]:
        """As pip takes them."""
        return (f"{self.package}=={self.version}", *self.beside)


LIBRARIES = (
    Library(
        "curvlinops",
        "curvlinops",
        "curvlinops-for-pytorch",
        "3.0.1",
        ("factors", "products"),
        "EKFAC, KFAC and their inverses; products with the GGN and the empirical Fisher",
        "https://curvlinops.readthedocs.io/en/latest/",
        ("Linear", *_CONVOLUTION, "expand", "reduce", "exact Fisher", "empirical Fisher"),
    ),
    Library(
        "nngeometry",
        "nngeometry",
        "nngeometry",
        "0.4",
        ("factors", "exact"),
        "EKFAC, KFAC and their solves; exact blocks, diagonal, Jacobian, the whole Fisher",
        "https://nngeometry.readthedocs.io/en/latest/",
        ("Linear", "Conv1d", *_CONVOLUTION, "exact Fisher"),
    ),
    Library(
        "kronfluence",
        "kronfluence",
        "kronfluence",
        "1.0.1",
        ("ekfac", "kfac"),
        "EKFAC, and the factors of its KFAC",
        "https://github.com/pomonam/kronfluence/blob/main/DOCUMENTATION.md",
        ("Linear", *_CONVOLUTION, "empirical Fisher"),
        laws={"kfac": ("kfac", "factors", "solve 1e-06", "solve 1")},
    ),
    Library(
        "BackPACK",
        "backpack",
        "backpack-for-pytorch",
        "1.7.1",
        ("factors", "root", "gradients"),
        "KFLR; diagonal and root of the GGN; gradients of samples, and their squares",
        "https://docs.backpack.pt/en/master/",
        ("Linear", "Embedding", "Conv1d", "Conv3d", "ConvTranspose2d", *_CONVOLUTION, "groups"),
    ),
    Library(
        "ASDL",
        "asdl",
        "asdfghjkl",
        "0.1a5",
        ("factors", "exact", "gradients", "steps"),
        "KFAC, exact blocks, diagonal, the whole Fisher, gradients of samples; steps of an EKFAC",
        "https://github.com/kazukiosawa/asdl",
        ("Linear", "Conv2d", "Embedding", "exact Fisher", "empirical Fisher"),
    ),
    Library(
        "dattri",
        "dattri",
        "dattri",
        "0.3.0",
        ("steps",),
        "the inverse of an EKFAC of Linear layers",
        "https://trais-lab.github.io/dattri/",
        ("Linear", "empirical Fisher", "positions of a Linear, one axis"),
    ),
    Library(
        "kfac-jax",
        "kfac_jax",
        "kfac-jax",
        "0.0.8",
        ("factors", "factored", "exact", "products"),
        "KFAC, its inverse exact and damped by factors; exact blocks, diagonals, the whole Fisher",
        "https://kfac-jax.readthedocs.io/en/latest/",
        (
            *("Linear", *_CONVOLUTION[:2], "padding", "exact Fisher", "empirical Fisher"),
            *("positions of a Linear, one axis", "positions of a Linear, several axes"),
        ),
        beside=("jax==0.9.0.1", "jaxlib==0.9.0.1"),  # of its month; with 0.10.2 it does not run
        laws={
            "factored": ("solve 1e-06", "solve 1"),
            "exact": ("exact block", "diagonal", "solve 1e-06", "solve 1"),
        },
    ),
)
