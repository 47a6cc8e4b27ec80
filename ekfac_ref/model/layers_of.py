"""The layers of a problem, with those that its forward shows, and no module."""

from ekfac_ref.model.copies.modes import ITS_OWN
from ekfac_ref.model.layers import Layer, find_layers, find_parameters
from ekfac_ref.model.random_state import undisturbed
from ekfac_ref.model.recording.bare_weights import bare_weights
from ekfac_ref.question.problem import Problem


def layers_of(problem: Problem) -> tuple[Layer, ...]:
    """What ``kfac`` and ``ekfac`` have factors of, of the problem's own model.

    Those of ``find_layers``, and Parameters that belong to no supported module where the forward
    multiplies with them: ``x @ W``, ``F.linear(x, W[e], b[e])``, ``torch.einsum``.
    """
    with undisturbed(problem.batches):
        return find_layers(problem.model, problem.layers, None, bare_weights(problem, ITS_OWN))


def parameters_of(problem: Problem) -> tuple[Layer, ...]:
    """What ``per_sample_gradients`` and ``exact_fisher`` are of: likewise, and ``find_parameters``.

    With trainable Parameters that are used otherwise, each a row.
    """
    with undisturbed(problem.batches):
        return find_parameters(problem.model, problem.layers, None, bare_weights(problem, ITS_OWN))
