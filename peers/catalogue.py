"""What was found, and what was met and is no finding: each with the reason."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).parent / "findings"
NUMBERS = re.compile(r"expected (\S+), got (\S+)")  # the last line that a script prints


@dataclass(frozen=True)
class Finding:
    """A deviation that a second derivation confirms.

    Attributes:
        id: also the name of its script in ``peers/findings``.
        library: by its name.
        wrong, right: the formula, as it is and as it is defined.
        features, laws: under which the board shows it; either may do.
        links: what documentation and issues say.
        may_be_meant: whether it may be a convention of the library's own: a question to its
            maintainers, and nothing that the board calls wrong.
    """

    id: str
    library: str
    wrong: str
    right: str
    features: tuple[str, ...]
    laws: tuple[str, ...] = ()
    links: str = ""
    may_be_meant: bool = False

    @property
    def script(self) -> Path:
        """It stands alone, with torch or JAX and the library."""
        return SCRIPTS / f"{self.id}.py"

    @property
    def sentence(self) -> str:
        """The script's first line."""
        told = ast.get_docstring(ast.parse(self.script.read_text())) or ""
        return told.partition(": ")[2]


EVERY = ("Linear",)  # of a library that has nothing but Linear layers: every problem shows it
_ZEROS = ("patches of x with zeros around it", "patches of x padded as padding_mode says")
_NO_ISSUE = "no issue was found, in November 2026"
_CIRCULAR = "no issue was found; f-dangel/backpack#78 lists padding_mode='circular' as removed"
_PADDED = ("padding mode", "padding by reflection")
_FIRST = ("tokens as samples", "tokens first", "one input for all samples")
_LABELS = ("H_n of every sample, diag p - p p^T", "H_n = 0 where y_n is ignore_index")
_GROUPS = (
    "(Q_B^T g_n abar_n^T Q_A)^2, abar the mean over groups",
    "(Q_B^T G_n Q_A)^2, G_n the gradient: rows of a group have its own inputs",
)

FINDINGS = (
    Finding(
        "curvlinops_padding_mode",
        "curvlinops",
        *_ZEROS,
        _PADDED,
        links="no issue was found; KFAC's documentation names Conv2d without a restriction",
    ),
    Finding(
        "curvlinops_groups",
        "curvlinops",
        *_GROUPS,
        ("groups", "depthwise"),
        links="that patches are averaged over groups stands in extract_patches, for KFAC's A",
    ),
    Finding(
        "curvlinops_ignored_labels", "curvlinops", *_LABELS, ("ignored labels",), links=_NO_ISSUE
    ),
    Finding(
        "curvlinops_first_axis",
        "curvlinops",
        "sum over rows of (q_B^T g_r a_r^T q_A)^2 and A over N rows",
        "sum over samples of (q_B^T (sum_t g_nt a_nt^T) q_A)^2, A over N T rows",
        _FIRST,
        links="EKFAC refuses outputs with tokens (f-dangel/curvlinops#173), not layers with them",
    ),
    Finding(
        "curvlinops_positions",
        "curvlinops",
        "sum_n sum_t g_nt g_nt^T, g_nt the gradient of what position t adds to the loss",
        "sum_n g_n g_n^T, g_n = sum_t g_nt: the samples of N inputs are N",
        ("outputs at positions",),
        ("network",),
        links="EFLinearOperator's formula has N inputs and no positions (no issue was found)",
        may_be_meant=True,
    ),
    Finding("nngeometry_padding_mode", "nngeometry", *_ZEROS, _PADDED, links=_NO_ISSUE),
    Finding(
        "nngeometry_drop_last",
        "nngeometry",
        "sum over the samples that came, / len(loader.sampler)",
        "the same sum, / the number of samples that came",
        ("DataLoader, drop_last",),
        links=_NO_ISSUE,
    ),
    Finding(
        "nngeometry_saturated",
        "nngeometry",
        "sqrt(p_c q_c / q_(c-1)), q = 1 - cumsum(p), which rounding makes negative",
        "that root with q as the sum of the probabilities behind c, which is not",
        ("saturated",),
        links="seen as answers that are NaN, on problems that the board counts as unanswered",
    ),
    Finding("kronfluence_padding_mode", "kronfluence", *_ZEROS, _PADDED, links=_NO_ISSUE),
    Finding(
        "kronfluence_groups", "kronfluence", *_GROUPS, ("groups", "depthwise"), links=_NO_ISSUE
    ),
    Finding(
        "kronfluence_kfac_scale",
        "kronfluence",
        "B = 1/(N T) sum_nt g_nt g_nt^T beside A = 1/(N T) sum_nt a_nt a_nt^T",
        "B = 1/N sum_nt g_nt g_nt^T beside that A (KFC, 1602.01407): else F is T times as large",
        (
            "Conv2d",
            "positions of a convolution",
            "positions of a Linear, one axis",
            "positions of a Linear, several axes",
            "outputs at positions",
            "MultiheadAttention",
            "self-attention",
            "class axis",
        ),
        ("kfac", "factors"),
        links="strategy='kfac' alone; Lambda of 'ekfac' is divided by N, so the default is right",
        may_be_meant=True,
    ),
    Finding("backpack_padding_mode", "BackPACK", *_ZEROS, _PADDED, links=_CIRCULAR),
    Finding("backpack_padding_mode_ggn", "BackPACK", *_ZEROS, _PADDED, links=_CIRCULAR),
    Finding(
        "backpack_padding_same",
        "BackPACK",
        "sum_t g_nt x_n,t+k-p with p = (T - 1) // 2 zeros before, T the number of outputs",
        "sum_t g_nt x_n,t+k-p with p = (K - 1) // 2 zeros before, K the size of the kernel",
        ("padding same, even", "padding same, odd"),
        links="no issue was found; padding=1 in its stead is right, and so are images as large as "
        "the kernel",
    ),
    Finding(
        "backpack_ignored_labels",
        "BackPACK",
        *_LABELS,
        ("ignored labels",),
        links="no issue was found; a loss with weights is asked for in f-dangel/backpack#350",
    ),
    Finding(
        "backpack_kflr_convolution",
        "BackPACK",
        "sum_n (sum_t g_nt) (sum_t g_nt)^T",
        "|T| Gamma = sum_n sum_t g_nt g_nt^T, which the note in the code says that it is",
        ("positions of a convolution",),
        ("kfac", "factors"),
        links="the factor |T| is documented, this is not; for a bias it is the exact block",
        may_be_meant=True,
    ),
    Finding(
        "asdl_ekfac_steps",
        "ASDL",
        "g",
        "(E + damping I)^-1 g",
        (),
        ("P inverse", "P resolvent", "P bounded", "trace"),
        links="it overrides _precondition, and the base class calls precondition(use_inv=True)",
    ),
    Finding(
        "asdl_ekfac_rotation",
        "ASDL",
        "U_B [(U_B v U_A) / (Lambda + eps)] U_A",
        "U_B [(U_B^T v U_A) / (Lambda + eps)] U_A^T",
        (),
        links="hidden behind asdl_ekfac_steps, and met while reading why",
    ),
    Finding("asdl_padding_mode", "ASDL", *_ZEROS, _PADDED, links=_NO_ISSUE),
    Finding(
        "asdl_kfac_tokens",
        "ASDL",
        "A = 1/N sum_nt a_nt a_nt^T beside B = 1/N sum_nt g_nt g_nt^T",
        "A = 1/(N T) sum_nt a_nt a_nt^T beside that B, as for its Conv2d",
        (
            "positions of a Linear, one axis",
            "positions of a Linear, several axes",
            "outputs at positions",
            "self-attention",
            "tokens as samples",
        ),
        ("kfac", "factors"),
        links=_NO_ISSUE,
    ),
    Finding("asdl_ignored_labels", "ASDL", *_LABELS, ("ignored labels",), links=_NO_ISSUE),
    Finding(
        "asdl_diagonal_of_convolutions",
        "ASDL",
        "sum_n sum_t g_nt^2 a_nt^2, where that takes less memory",
        "sum_n (sum_t g_nt a_nt)^2",
        ("positions of a convolution",),
        ("diagonal",),
        links="where T (in + out) < in out, as operations/conv.py chooses; no issue was found",
    ),
    Finding(
        "asdl_tokens",
        "ASDL",
        "sum over tokens of vec(g_nt a_nt^T) vec(g_nt a_nt^T)^T",
        "sum over samples of vec(G_n) vec(G_n)^T, G_n = sum_t g_nt a_nt^T",
        (
            "positions of a Linear, one axis",
            "positions of a Linear, several axes",
            "outputs at positions",
            "MultiheadAttention",
            "self-attention",
            *_FIRST,
        ),
        ("exact block", "diagonal", "network", "sample gradients"),
        links="batch_gradient had an axis of tokens repaired once (kazukiosawa/asdl@2971f5a)",
    ),
    Finding(
        "dattri_rotation",
        "dattri",
        "Q_S^T [(Q_S v Q_A^T) / (Lambda + damping)] Q_A, Lambda = mean (Q_S G_n Q_A^T)^2",
        "Q_S [(Q_S^T v Q_A) / (Lambda + damping)] Q_A^T, Lambda = mean (Q_S^T G_n Q_A)^2",
        EVERY,
        ("P inverse", "P commutes", "P bounded", "commutes", "comparison", "kernel", "exactness"),
        links="Q are torch.linalg.eigh's, with eigenvectors in columns (TRAIS-Lab/dattri#143)",
    ),
    Finding(
        "dattri_bias",
        "dattri",
        "(W flat, then b).reshape(d_out, d_in + 1)",
        "[W | b]: b is the last column",
        EVERY,
        ("P inverse", "comparison", "trace", "moments"),
        links=_NO_ISSUE,
    ),
    Finding(
        "kfac_jax_dilation",
        "kfac-jax",
        "A of patches without dilation, over as many locations as those would have",
        "A of the patches that the kernel sees, over the locations of the output",
        ("dilation",),
        links="patches_moments says that it has no dilation and raises; it is not told of any here "
        "(no issue was found; as in google-deepmind/kfac-jax@babd853)",
    ),
    Finding(
        "kfac_jax_positions",
        "kfac-jax",
        "column (t, c): sqrt(p_tc) (e_tc - p_s) at every position s",
        "column (t, c): sqrt(p_tc) (e_c - p_t) at position t, and zero elsewhere",
        ("outputs at positions",),
        links="multiply_fisher, of the same loss, is right at every position "
        "(no issue was found; as in google-deepmind/kfac-jax@babd853)",
    ),
    Finding(
        "kfac_jax_masked_bias",
        "kfac-jax",
        "A of (m_nt a_nt, 1), over the positions with m_nt = 1",
        "A of m_nt (a_nt, 1), over the positions with m_nt = 1",
        ("outputs at positions", "mask", "mask in some batches"),
        links="m_nt = 0 where all of g_nt is zero: in fisher_exact, at all positions but one of a "
        "column (no issue was found; as in google-deepmind/kfac-jax@babd853)",
    ),
    Finding(
        "kfac_jax_zero_gradients",
        "kfac-jax",
        "A (x) B / (positions with a gradient, per sample), which is 0 / 0",
        "zero, of an average over the positions that are there",
        (),
        links="seen as answers that are NaN, on problems that the board counts as unanswered "
        "(no issue was found; as in google-deepmind/kfac-jax@babd853)",
    ),
    Finding(
        "kfac_jax_norm_in_cache",
        "kfac-jax",
        "(F + damping I)^-1, cached",
        "(F + damping |F| I)^-1, as without the cache, |F| the norm that was named",
        (),
        links="found by reading: the scaled weight is computed and not used "
        "(as in google-deepmind/kfac-jax@babd853)",
    ),
    Finding(
        "kfac_jax_empirical_direct",
        "kfac-jax",
        "(1/N) g g^T, g the gradient of the mean loss",
        "g g^T, as fisher_empirical has it",
        (),
        links="found by reading; repaired after the release, in google-deepmind/kfac-jax@62d9203",
    ),
)


def counted() -> str:
    """How many there are, and how many of them are questions."""
    questions = sum(one.may_be_meant for one in FINDINGS)
    return f"{len(FINDINGS) - questions} findings and {questions} questions"


# (library, feature): why a deviation there is no finding, or by which finding it comes.
EXPLAINED: dict[tuple[str, str], str] = {
    ("curvlinops", "subclass of a layer"): "documented for Linear and Conv2d; a subclass with a "
    "forward of its own is neither, and an error would be kinder",
    ("curvlinops", "padding_idx"): "torch's forward-mode derivative trains its row, and its "
    "backward does not (pytorch/pytorch#93950)",
    ("ASDL", "subclass of a layer"): "as for curvlinops",
    ("kronfluence", "tokens as samples"): "a layer's first axis is taken for the samples, as in "
    "every library with hooks; curvlinops_first_axis shows it",
    ("kronfluence", "tokens first"): "as for tokens as samples",
    ("kronfluence", "one input for all samples"): "as for tokens as samples",
    ("nngeometry", "tokens as samples"): "as for kronfluence",
    ("nngeometry", "one input for all samples"): "as for kronfluence",
    ("nngeometry", "ignored labels"): "FIM's function is given inputs and no labels, so it has no "
    "ignored ones to know of; a function of one's own can",
    ("BackPACK", "tokens first"): "as for kronfluence",
    ("BackPACK", "one input for all samples"): "as for kronfluence",
    ("kfac-jax", "ignored labels"): "at positions: those whose gradients are zero are taken for "
    "masked, as RepeatedDenseKroneckerFactored says, and those of ignored labels count here; "
    "use_masking=False counts them, too. With a bias: kfac_jax_masked_bias",
    ("kfac-jax", "self-attention"): "behind it a column is zero at all positions but one: "
    "kfac_jax_masked_bias",
}
MANNERS = ("leaves alone", "after an exception", "nan", "batch norm", "unknown layer")
