"""Four libraries, two tasks: data to KFAC, and to EKFAC, to the first product with a vector.

Each computes factors (for EKFAC eigenbases and corrected eigenvalues too) under the empirical
Fisher with weight and bias joint, in the passes that it needs, and multiplies all layers with one
vector.
"""

import copy
import logging
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

import ekfac_ref as ek
from studies.speed.cases import Case

Vector = dict[str, Tensor]  # by parameter name
Library = Callable[[Case, Vector], Vector]


def _ours(compute: Callable[[ek.Problem], Any]) -> Library:
    """Its scale is 1/N of the unit likelihood."""

    def product(case: Case, vector: Vector) -> Vector:
        found: Vector = {}
        blocks = compute(case.problem)
        for layer in ek.find_layers(case.model):
            found |= layer.from_matrix(blocks[layer.name].matvec(layer.to_matrix(vector)))
        return found

    return product


def _curvlinops(operator: str) -> Library:
    """``KFACLinearOperator`` and ``EKFACLinearOperator``; their scale is that of the mean loss."""

    def product(case: Case, vector: Vector) -> Vector:
        import curvlinops

        names = list(case.trained)
        M = getattr(curvlinops, operator)(
            case.model,
            nn.CrossEntropyLoss(),
            list(case.trained.values()),
            case.loader,
            check_deterministic=False,
            fisher_type="empirical",
            separate_weight_and_bias=False,
            num_data=case.samples,
        )
        return dict(zip(names, M @ [vector[name] for name in names], strict=True))

    return product


def _nngeometry(matrix: str) -> Library:
    """``PMatKFAC``, and ``PMatEKFAC`` with its ``update_diag``; their scale is ours."""

    def product(case: Case, vector: Vector) -> Vector:
        from nngeometry import object as matrices
        from nngeometry.backend import TorchHooksJacobianBackend
        from nngeometry.layercollection import LayerCollection

        def score(x: Tensor, y: Tensor) -> Tensor:
            return torch.log_softmax(case.model(x), 1).gather(1, y[:, None])

        layers = LayerCollection.from_model(case.model)
        generator = TorchHooksJacobianBackend(
            layer_collection=layers, model=case.model, function=score
        )
        M = getattr(matrices, matrix)(generator=generator, examples=case.loader)
        if hasattr(M, "update_diag"):
            M.update_diag(case.loader)
        flat = matrices.PVector(
            layer_collection=layers, vector_repr=torch.cat([v.flatten() for v in vector.values()])
        )
        pieces = M.mv(flat).to_torch().split([v.numel() for v in vector.values()])
        return {name: p.view_as(v) for (name, v), p in zip(vector.items(), pieces, strict=True)}

    return product


def _kronfluence(corrected: bool) -> Library:
    """``Analyzer``, which writes its factors to files; sums, without 1/N.

    It has no public product with them: the two sandwiches below are part of its time.
    """

    def product(case: Case, vector: Vector) -> Vector:
        from kronfluence.analyzer import Analyzer, prepare_model
        from kronfluence.arguments import FactorArguments
        from kronfluence.task import Task

        class Labelled(Task):  # type: ignore[misc]
            def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool) -> Tensor:
                return case.loss(model(batch[0]), batch[1])

            def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
                raise NotImplementedError

        with TemporaryDirectory() as folder:
            analyzer = Analyzer(
                "speed",
                prepare_model(copy.deepcopy(case.model), task := Labelled()),
                task,
                cpu=True,
                log_level=logging.ERROR,
                disable_tqdm=True,
                output_dir=folder,
            )
            how = FactorArguments(use_empirical_fisher=True, eigendecomposition_dtype=torch.float32)
            given = {"factor_args": how, "per_device_batch_size": case.loader.batch_size}
            fit = analyzer.fit_all_factors if corrected else analyzer.fit_covariance_matrices
            fit("f", case.loader.dataset, **given)
            load = analyzer.load_all_factors if corrected else analyzer.load_covariance_matrices
            factors = load("f")
        found: Vector = {}
        for layer in ek.find_layers(case.model):
            V = layer.to_matrix(vector)
            B, A = (
                _of(factors, side, layer.name, corrected) for side in ("gradient", "activation")
            )
            if corrected:
                X = B @ (factors["lambda_matrix"][layer.name] * (B.T @ V @ A)) @ A.T
            else:
                X = B @ V @ A
            found |= layer.from_matrix(X)
        return found

    return product


def _of(factors: dict[str, Vector], side: str, layer: str, corrected: bool) -> Tensor:
    return factors[f"{side}_{'eigenvectors' if corrected else 'covariance'}"][layer]


OURS = "ekfac_ref"
KFAC: dict[str, Library] = {
    OURS: _ours(ek.kfac),
    "curvlinops 3.0.1": _curvlinops("KFACLinearOperator"),
    "nngeometry 0.4": _nngeometry("PMatKFAC"),
    "kronfluence 1.0.1": _kronfluence(corrected=False),
}
EKFAC: dict[str, Library] = {
    OURS: _ours(ek.ekfac),
    "curvlinops 3.0.1": _curvlinops("EKFACLinearOperator"),
    "nngeometry 0.4": _nngeometry("PMatEKFAC"),
    "kronfluence 1.0.1": _kronfluence(corrected=True),
}
