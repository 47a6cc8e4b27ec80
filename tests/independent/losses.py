"""The unit losses l(f, y), each by torch's own loss module, summed over all samples given."""

from torch import Tensor, nn


def half_squared_error(f: Tensor, y: Tensor) -> Tensor:
    """1/2 ||f - y||^2: the Gaussian likelihood."""
    return 0.5 * nn.MSELoss(reduction="sum")(f, y)


def cross_entropy(f: Tensor, y: Tensor) -> Tensor:
    """Torch's layout, f [N, classes, *positions]; the label -100 is ignored."""
    return nn.CrossEntropyLoss(reduction="sum", ignore_index=-100)(f, y)


def token_cross_entropy(f: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy with the classes last, f [N, *positions, classes]."""
    return cross_entropy(f.movedim(-1, 1), y)


def bernoulli(f: Tensor, y: Tensor) -> Tensor:
    """Binary cross-entropy with logits f."""
    return nn.BCEWithLogitsLoss(reduction="sum")(f, y)


def poisson(f: Tensor, y: Tensor) -> Tensor:
    """exp(f) - y f: f is the logarithm of the rate."""
    return nn.PoissonNLLLoss(log_input=True, full=False, reduction="sum")(f, y)
