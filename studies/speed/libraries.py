"""Three libraries, one task: data to EKFAC to the first finished product with a vector.

Each computes factors, eigenbases and corrected eigenvalues under the empirical Fisher with weight
and bias joint, in the two passes that it needs, and multiplies all layers with one vector.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from studies.speed.cases import Case

Vector = dict[str, Tensor]  # by parameter name
Library = Callable[[Case, Vector], Vector]


def this_package(case: Case, vector: Vector) -> Vector:
    """``ekfac``; its scale is 1/N of the unit likelihood."""
    product: Vector = {}
    blocks = ek.ekfac(case.problem)
    for layer in ek.find_layers(case.model):
        product |= layer.from_matrix(blocks[layer.name].matvec(layer.to_matrix(vector)))
    return product


def curvlinops(case: Case, vector: Vector) -> Vector:
    """``EKFACLinearOperator``; its scale is that of the mean loss."""
    from curvlinops import EKFACLinearOperator

    names = [name for name, _ in case.model.named_parameters()]
    operator = EKFACLinearOperator(
        case.model,
        nn.CrossEntropyLoss(),
        list(case.model.parameters()),
        case.loader,
        check_deterministic=False,
        fisher_type="empirical",
        separate_weight_and_bias=False,
        num_data=case.samples,
    )
    return dict(zip(names, operator @ [vector[name] for name in names], strict=True))


def nngeometry(case: Case, vector: Vector) -> Vector:
    """``PMatEKFAC`` and its ``update_diag``; its scale is 1/N of the unit likelihood."""
    from nngeometry.backend import TorchHooksJacobianBackend
    from nngeometry.layercollection import LayerCollection
    from nngeometry.object import PMatEKFAC, PVector

    def score(x: Tensor, y: Tensor) -> Tensor:
        return torch.log_softmax(case.model(x), 1).gather(1, y[:, None])

    layers = LayerCollection.from_model(case.model)
    generator = TorchHooksJacobianBackend(layer_collection=layers, model=case.model, function=score)
    matrix = PMatEKFAC(generator=generator, examples=case.loader)
    matrix.update_diag(case.loader)
    flat = PVector(
        layer_collection=layers, vector_repr=torch.cat([v.flatten() for v in vector.values()])
    )
    product = matrix.mv(flat).to_torch()
    pieces = product.split([v.numel() for v in vector.values()])
    return {name: p.view_as(v) for (name, v), p in zip(vector.items(), pieces, strict=True)}


LIBRARIES: dict[str, Library] = {
    "ekfac_ref": this_package,
    "curvlinops 3.0.1": curvlinops,
    "nngeometry 0.4": nngeometry,
}
