r"""Every symbol of this package, once.

========  ==============  =================  ==================================================
math      code            shape              meaning
========  ==============  =================  ==================================================
N         axis ``N``                         samples
T         axis ``T``                         positions: uses of the weight within one sample
C         axis ``C``                         columns of the Fisher's square root, per sample
K         ``*out``                           network outputs per sample
d_in      axis ``d_in``                      inputs of a layer, **the homogeneous 1 of the bias
                                             included**
d_out     axis ``d_out``                     outputs of a layer
P         axis ``P``                         P = d_out d_in
f_n       ``f``           ``*out``           network output for sample n
S_n       ``S``           ``C *out``         square root of the output-space Fisher, one column s_nc
                                             per entry of axis C: S_n^T S_n in this layout is
                                             Cov_{y ~ p(.|f_n)} [grad_f log p(y|f_n)]; a constant
                                             for the differentiation
G_nc      ``G``           ``d_out d_in``     gradient of <f_n, s_nc> with respect to [W | b]
a_nt      ``a``           ``d_in``           input of the layer at position t
g_nct     ``g``           ``d_out``          gradient of <f_n, s_nc> with respect to the layer's
                                             output at t:  G_nc = sum_t g_nct a_nt^T
F         ``F``           ``P P``            (1/N) sum_nc vec(G_nc) vec(G_nc)^T
A, B      same            squares            Kronecker factors, F ~ B (x) A, **B first**
Q_A, Q_B  same            ``d r``            eigenvectors of A and B as columns (r = d, or fewer
                                             where the rest of the space carries nothing)
Lambda    ``eigenvalues`` ``r_out r_in``     (1/N) sum_nc [Q_B^T G_nc Q_A]^2, elementwise
E                         ``P P``            (Q_B (x) Q_A) diag(vec Lambda) (Q_B (x) Q_A)^T
lambda    ``damping``     scalar             added to the eigenvalues, once
========  ==============  =================  ==================================================

**vec stacks rows.** ``matrix.reshape(-1)`` of the ``[d_out, d_in]`` matrix [W | b]. So the bias
ends every row (it does not stand behind the whole weight), the Kronecker product is
``torch.kron(B, A)``, and ``matvec(V)`` of it is ``B @ V @ A.T``.

**Where the 1/N is.** F, A, B and Lambda belong to the *unit* likelihood - the negative
log-likelihood summed over everything but the sample - and carry 1/N and no other factor. (A counts
positions instead of samples under ``Expand``; ``sharing.py`` says where.) What a torch loss module
adds to that is one scalar, and ``losses.loss_scale`` is the only place that knows it.

**A group is a layer of its own.** A grouped convolution has one block per group.

Errors of one matrix against another are relative in the Frobenius norm, ||X - Y|| / ||Y||.
"""
