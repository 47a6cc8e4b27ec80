"""kfac-jax: KFAC of a repeated dense layer and its damped inverse are NaN if gradients are zero."""

import jax
import jax.numpy as jnp
import kfac_jax

key = jax.random.PRNGKey(0)
w, x = -jnp.ones((3, 4)), jnp.ones((5, 6, 3))  # [N, T, d]; every unit is dead


def loss(w, batch):
    f = jnp.maximum(batch @ w, 0.0).mean(1)
    kfac_jax.register_normal_predictive_distribution(f, jnp.ones_like(f), variance=1.0)
    return jnp.square(f - 1.0).sum() / 2


# A matrix of the products of gradients that are zero is zero: its trace is sum_n |g_n|^2 / N.
gradients = jax.vmap(lambda xn: jax.grad(loss)(w, xn[None]))(x)
expected = jnp.square(gradients).sum() / len(x)
curvature = kfac_jax.BlockDiagonalCurvature(loss, default_estimation_mode="fisher_exact")
state = curvature.init(key, (w, x), None, None)
state = curvature.update_curvature_matrix_estimate(state, 0.0, 1.0, 0.0, 5, key, (w, x))
got = curvature.multiply(state, jnp.ones_like(w), 0.0, True, False, None).sum()
print(f"expected {expected:.9g}, got {got:.9g}")
