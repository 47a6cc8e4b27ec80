"""kfac-jax: KFAC of a repeated dense layer counts masked positions for its bias, and only there."""

import jax
import jax.numpy as jnp
import kfac_jax

keys = jax.random.split(jax.random.PRNGKey(0), 2)
x, y, mask = jax.random.normal(keys[0], (1, 6, 3)), jnp.zeros((1, 6), int), jnp.eye(6)[:1]
parameters = {"w": jax.random.normal(keys[1], (3, 4)), "b": jnp.zeros(4)}


def loss(parameters, batch):
    f = batch @ parameters["w"] + parameters["b"]
    kfac_jax.register_softmax_cross_entropy_loss(f, y, mask)
    return -(jax.nn.log_softmax(f)[..., 0] * mask).sum()


# One sample, and one position that counts: the empirical Fisher is g g^T, KFAC is exact, and their
# trace |g|^2. The masked inputs are set to zero, their ones are not.
gradient = jax.grad(loss)(parameters, x)
expected = sum(jnp.square(g).sum() for g in gradient.values())
curvature = kfac_jax.BlockDiagonalCurvature(loss, default_estimation_mode="fisher_empirical")
arguments = (parameters, x)
state = curvature.init(keys[0], arguments, None, None)
state = curvature.update_curvature_matrix_estimate(state, 0.0, 1.0, 0.0, 1, keys[0], arguments)
got = curvature.eigenvalues(state, use_cached=False).sum()
print(f"expected {expected:.9g}, got {got:.9g}")
