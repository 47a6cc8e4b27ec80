"""kfac-jax: KFAC of a dilated convolution has the patches and locations of one without dilation."""

import jax
import jax.numpy as jnp
import kfac_jax

keys = jax.random.split(jax.random.PRNGKey(0), 3)
x, w = jax.random.normal(keys[0], (1, 3, 3, 2)), jax.random.normal(keys[1], (2, 2, 2, 4))
y = jax.random.normal(keys[2], (1, 1, 1, 4))


def loss(w, batch):
    axes = ("NHWC", "HWIO", "NHWC")
    f = jax.lax.conv_general_dilated(
        batch[0], w, (1, 1), "VALID", rhs_dilation=(2, 2), dimension_numbers=axes
    )
    kfac_jax.register_normal_predictive_distribution(f, batch[1], variance=1.0)
    return jnp.square(f - batch[1]).sum() / 2


# One sample and one location: the empirical Fisher is g g^T, KFAC is exact, their trace |g|^2.
expected = jnp.square(jax.grad(loss)(w, (x, y))).sum()
curvature = kfac_jax.BlockDiagonalCurvature(loss, default_estimation_mode="fisher_empirical")
state = curvature.init(keys[0], (w, (x, y)), None, None)
state = curvature.update_curvature_matrix_estimate(state, 0.0, 1.0, 0.0, 1, keys[0], (w, (x, y)))
got = curvature.eigenvalues(state, use_cached=False).sum()
print(f"expected {expected:.9g}, got {got:.9g}")
