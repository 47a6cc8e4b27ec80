"""Mistakes that were made and published, and the mutants that make the same ones on purpose.

Public implementations of KFAC, EKFAC, Fishers, per-sample gradients and what is built on them, as
their issues and commits tell. A source is written as repository#issue or repository@commit.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One mistake that somebody has made.

    Attributes:
        source: public issues, pull requests and commits; "" where nobody is known to have made it,
            but a variant of it is published and it is as easily made.
        mistake: what was wrong.
        mutants: names of those in the catalogue that make a mistake of the same kind.
        why_none: why there are none, instead: what an EKFAC in one process has nothing to do with.
    """

    source: str
    mistake: str
    mutants: tuple[str, ...] = ()
    why_none: str = ""


_PROCESSES = "It takes several processes or devices, and the kit asks one."
_UPDATES = "It is about an optimizer's updates; the kit asks for a matrix and its solves."
_TESTS = "It was a test that was wrong, not what it tested."

# Factors of N, T and C, and of the loss.
_SCALES = (
    Published(
        "curvlinops#108, curvlinops#109",
        "undoes a mean loss by N alone, where torch has divided by outputs or labels as well",
        ("loss-averaged-over-outputs", "loss-averaged-over-labels", "mean-over-entries"),
    ),
    Published(
        "curvlinops#111, curvlinops#112",
        "divides a Monte Carlo Fisher by C twice, in the loss and in the sampler",
        ("mean-over-columns", "block-averaged-over-columns"),
    ),
    Published(
        "curvlinops#82, Laplace#146",
        "has factors twice as large as two other libraries, probably a squared error with no half",
        ("twice", "squared-error-twice"),
    ),
    Published(
        "backpack@f2975ad6",
        "leaves the number of outputs out of the Hessian of a mean squared error",
        ("times-outputs",),
    ),
    Published(
        "backpack#49",
        "takes second moments of gradients that are already divided by N",
        ("divided-by-n-twice",),
    ),
    Published(
        "natural-gradients#2",
        "averages outer products of a mean loss's gradients",
        (
            "divided-by-n-twice",
            "mean-loss-gradients",
            "output-factor-over-n-twice",
            "kfac-over-n-twice",
        ),
    ),
    Published(
        "kfac-jax@62d9203, kfac-jax@40cf083",
        "has one power of the batch size too many under an empirical Fisher",
        ("divided-by-n-twice",),
    ),
    Published("logix#44", "halves EKFAC's eigenvalues", ("half-lambda",)),
    Published(
        "bergson@1d5b4cf, bergson#112",
        "collects per-sample gradients from a mean loss, each over the size of its own batch",
        ("mean-loss-gradients", "scaled-by-the-first-batch"),
    ),
    Published(
        "bergson@fb52f1d",
        "divides a loss summed over a batch by the length of one row",
        ("times-batch-size",),
    ),
    Published(
        "bergson@f173b6a",
        "divides a sum over tokens by the number of documents",
        ("summed-input-factor", "kfac-inputs-over-samples"),
    ),
    Published(
        "opacus#792",
        "averages a loss over all tokens, also those whose label is ignored",
        ("loss-averaged-over-positions",),
    ),
    Published(
        "asdl@20d2474",
        "takes the norm of the residual for its square",
        ("residual-not-squared", "absolute-value"),
    ),
    Published(
        "asdl@77dc587, asdl@c624f33",
        "scales some representations of a matrix and not its others, the inverse among them",
        ("solved-with-another-scale",),
    ),
    Published(
        "GPTQModel#1584, GPTQModel#2979",
        "counts sequences on one path and tokens on another",
        ("mean-over-positions", "summed-input-factor", "kfac-inputs-over-samples"),
    ),
    Published(
        "netket#2228, netket#2229",
        "returns a chunked solution over the number of devices",
        why_none=_PROCESSES,
    ),
    Published(
        "nngeometry#75, kfac#41, kfac#36, asdl@519c073",
        "puts the number of positions into one factor or into the other",
        ("positions-in-the-other-factor",),
    ),
    Published(
        "pytorch-a2c-ppo-acktr-gail#54",
        "normalises both factors of a strided convolution by the size of its input",
        ("input-positions-in-A",),
    ),
    Published(
        "kfac-tutorial@a757461",
        "writes an N too many in front of the Kronecker product",
        ("sum-over-samples",),
    ),
    Published(
        "backpack@1b6113fa",
        "divides by the squared batch size in one module's backward pass",
        ("divided-by-n-twice",),
    ),
)

# What is squared, and what one sample's gradient is.
_SQUARES = (
    Published(
        "Overcoming-Catastrophic-forgetting-in-Neural-Networks#6, pytorch-ewc#1, "
        "GradientEpisodicMemory#7, Continual-Learning-Benchmark#10, AiDotNet#1060",
        "squares the mean of the gradients",
        ("square-of-the-mean", "block-of-the-mean-gradient"),
    ),
    Published(
        "avalanche#1224",
        "squares every batch's mean gradient and averages over batches",
        ("square-of-each-batch-mean", "mean-of-batch-means"),
    ),
    Published(
        "pytorch-ewc#2",
        "averages squares over the entries too, one number for a whole tensor",
        ("scalar-mean",),
    ),
    Published(
        "nngeometry@eeadea4",
        "copies a weight back into the model only where there is no bias",
        why_none="Vectors are written to a model; a subject hands operators over, and writes none.",
    ),
    Published(
        "bergson@2d18737",
        "gives every sample the bias gradient of its whole batch",
        ("bias-of-the-whole-batch",),
    ),
    Published(
        "nngeometry@c50a9e1",
        "has a wrong power of the norm in the gradient of a normalised weight",
        why_none="The gradient is that of a layer which is not linear in its parameters; such "
        "layers have no EKFAC block.",
    ),
    Published(
        "opacus#511",
        "has twice the gradient for one of several parameters",
        ("last-layer-twice",),
    ),
    Published(
        "asdl@f01a926, asdl@2971f5a",
        "sums gradients over tokens on some paths only",
        ("square-each-position", "block-of-single-positions"),
    ),
)

# The geometry of convolutions.
_CONVOLUTIONS = (
    Published(
        "opacus#1, opacus#137",
        "unfolds images without padding and stride, later without dilation",
        ("padding-forgotten", "stride-forgotten", "dilation-forgotten"),
    ),
    Published(
        "backpack#161, backpack#163, backpack#164, backpack#167",
        "treats grouped convolutions as if they had one group",
        ("inputs-of-first-group",),
    ),
    Published(
        "opacus#450, opacus#451",
        "knows no padding that is one wider on the right",
        ("padded-from-the-right",),
    ),
    Published(
        "backpack@368786c3, backpack#31, opacus#245",
        "keeps a kernel gradient that is too large where the stride leaves a remainder",
        ("patches-from-the-far-edge",),
    ),
    Published(
        "backpack@a0d4da99, backpack#53",
        "transposes a strided convolution to the smallest of several sizes that fit",
        ("output-padding-forgotten",),
    ),
    Published(
        "lbann#2010",
        "lacks a transpose in the KFAC of convolutions",
        (
            "positions-transposed",
            "transposed-weight-flattened",
            "input-eigenvectors-as-rows",
            "output-eigenvectors-as-rows",
            "rotated-the-wrong-way",
        ),
    ),
    Published(
        "backpack@59f0aef5, backpack@fd7411f7, backpack@e36e5eb2",
        "views a flat axis as channels, height, width in the wrong place",
        ("channels-last-in-patches", "kernel-transposed"),
    ),
)

# EKFAC's own step, and what it is computed from.
_EIGENVALUES = (
    Published(
        "curvlinops#127, curvlinops#173",
        "is unsure of gradients where one sample has several loss terms",
        ("positions-drawn-together", "square-each-position"),
    ),
    Published(
        "nngeometry@d374e2f, pyDVL#476",
        "squares inputs and output gradients apart, right for one position only",
        ("square-each-position",),
    ),
    Published(
        "EKFAC-pytorch#1",
        "computes the natural gradient and stores the raw one",
        ("not-solved",),
    ),
    Published(
        "bergson@2671534",
        "keeps eigenvalues in half precision, whatever was asked for",
        ("lambda-in-half-precision",),
    ),
    Published(
        "bergson@83c4629",
        "accumulates factors in half precision",
        ("basis-in-half-precision",),
    ),
    Published(
        "bergson@19ecf86",
        "resumes from stale factors and eigenvalues",
        ("eigenvectors-of-the-call-before", "basis-of-the-first-batch"),
    ),
    Published(
        "",
        "measures eigenvalues in one basis and applies them in a later one",
        ("measured-in-an-older-basis",),
    ),
)

# Which axis is which.
_ORDERS = (
    Published(
        "bergson#254",
        "takes the sizes of a weight stored as [in, out] for [out, in]",
        ("transposed-weight-flattened", "transposed-where-square"),
    ),
    Published(
        "bergson@342a216, bergson@fb52f1d, bergson@5c6b2af",
        "orients second moments by their shape, which a square layer leaves open",
        ("transposed-where-square",),
    ),
    Published(
        "kfac-jax#114",
        "exchanges inputs and outputs of layers that multiply from the other side",
        ("kron-in-the-other-order", "transposed-where-square"),
    ),
    Published(
        "kfac-pytorch@b5b10e5",
        "preconditions an embedding by a transposed gradient and a broadcast product",
        ("solved-the-wrong-way-round",),
    ),
    Published(
        "curvlinops#182",
        "leaves open whether vec stacks rows or columns",
        (
            "kron-in-the-other-order",
            "column-order",
            "row-order",
            "kfac-in-the-other-order",
            "block-by-columns",
        ),
    ),
    Published(
        "Laplace#268, Laplace#270, Laplace#274",
        "multiplies by a square root that should have been transposed",
        ("not-transposed", "other-way-round"),
    ),
    Published(
        "nngeometry@4286b15",
        "decomposes a four-axis Gram tensor as a batch of matrices",
        ("eigenvectors-of-halves",),
    ),
    Published(
        "asdl@fbc3b3a",
        "compares a shape with a tensor, so that BatchNorm's branch is never taken",
        why_none="The parameters of norm layers have no EKFAC block.",
    ),
)

# The bias.
_BIASES = (
    Published(
        "bergson@0abaa22",
        "has one flag for the biases of all layers",
        ("bias-of-first-layer-for-all",),
    ),
    Published(
        "nngeometry@7cb2897, nngeometry@3263820, nngeometry@f501549, nngeometry@985b443",
        "takes the last input for a bias where there is none",
        ("last-input-cut", "bias-where-none-is"),
    ),
    Published(
        "dattri#143",
        "gets worse when the bias joins gradient and Fisher, for a reason that is not told",
        ("bias-left-out", "bias-apart", "bias-first"),
    ),
    Published(
        "",
        "puts the 1 of the bias first, divides it by positions, or keeps it at padding",
        ("bias-first", "one-over-positions", "ones-at-padding"),
    ),
)

# Damping and solves.
_SOLVES = (
    Published(
        "asdl@c9916bc",
        "adds damping to the stored factor in place",
        ("damping-accumulates", "solution-over-v"),
    ),
    Published(
        "kfac-pytorch@12741b3",
        "adds damping to every entry of a factor, and passes none on",
        ("damping-on-every-entry", "no-damping"),
    ),
    Published(
        "kfac-jax@279be80",
        "splits the damping over the factors by sums of entries, not by traces",
        ("factored-damping",),
    ),
    Published(
        "EKFAC-pytorch#3, EKFAC-pytorch#4",
        "names a squared quantity like its root, in a formula that is right",
        why_none="Nothing but the name was wrong.",
    ),
    Published(
        "kfac-jax@ade495c, kfac-jax@1ab9aca, vmcnet#115",
        "inverts 1 x 1 factors in the wrong branch, and divides by zero where all are scalars",
        ("scalar-inverted",),
    ),
    Published(
        "singd#17",
        "lacks the damping in one term of an inverse-free update",
        why_none=_UPDATES,
    ),
    Published(
        "Laplace#13, Laplace#121",
        "adds the root of the damping to each factor's eigenvalues",
        ("factored-damping",),
    ),
    Published(
        "baselines#130",
        "damps the factors in another way than the paper that it cites",
        ("factored-damping", "damped-factors"),
    ),
    Published(
        "curvlinops@a05a8bc",
        "stops an iterative solver at once, by the sign of an exponent",
        ("one-step",),
    ),
    Published(
        "bergson@6232d1e",
        "always takes the power -1/2, by a condition that cannot fail",
        ("square-root-of-the-inverse",),
    ),
    Published(
        "pyDVL#595",
        "applies the inverse to what it has been applied to",
        ("solved-twice", "multiplied-twice"),
    ),
)

# Whose labels.
_LABELS = (
    Published(
        "Continual-Learning-Benchmark#7, overcoming-catastrophic#3",
        "takes the most likely label for a sample",
        ("most-likely-label",),
    ),
    Published(
        "pyDVL#478",
        "mixes gradients of one loss with curvature of another",
        ("output-factor-of-the-data-labels", "output-factor-of-one-column"),
    ),
    Published(
        "backpack@62fc89c3",
        "makes one-hot codes as wide as the labels that happened to be drawn",
        ("classes-up-to-the-largest-label",),
    ),
    Published(
        "kronfluence@5e76f33",
        "samples labels also where the label is to be ignored",
        ("ignored-labels-counted",),
    ),
    Published(
        "bergson#123",
        "reduces the loss for labels of the data and not for sampled ones",
        ("loss-averaged-in-one-branch",),
    ),
    Published(
        "curvlinops#292, kfac-jax@9a65189",
        "seeds the global generator for its samples, or uses one key twice",
        ("global-random-state",),
    ),
)

# Batches, positions, masks.
_DATA = (
    Published(
        "asdl@c73fab8",
        "overwrites a product that its caller still holds",
        ("product-in-a-buffer",),
    ),
    Published(
        "kronfluence@2dafce4, kronfluence@190bff5, kronfluence@f6db06d",
        "cuts the last, uneven batch by a wrong count",
        ("nominal-batch-size", "last-batch-filled-up"),
    ),
    Published(
        "kfac-pytorch@494efd5",
        "compares a count of samples with one of batches, so that factors come too early",
        ("basis-without-the-last-batch", "batches-for-samples"),
    ),
    Published(
        "asdl@2a1a15f",
        "drops the last batch if it is smaller",
        ("small-last-batch-dropped", "basis-without-the-last-batch"),
    ),
    Published(
        "",
        "averages the means of uneven batches, or counts the last one as full",
        (
            "mean-of-batch-means",
            "lambda-by-mean-of-batch-means",
            "factors-by-mean-of-batch-means",
            "nominal-batch-size",
        ),
    ),
    Published(
        "bergson@f286989",
        "gives an empty document a length of -1, and with it another document's rows",
        why_none="Documents of different lengths are packed in one file; a subject is given "
        "samples.",
    ),
    Published(
        "kfac-pytorch@793898a, kfac-pytorch@995a7d3",
        "runs its averages with the default decay, whatever it is told",
        ("factors-by-running-average", "running-average"),
    ),
    Published(
        "kfac-jax@aaf3064",
        "raises the damping when a step is accepted",
        why_none=_UPDATES,
    ),
    Published(
        "bergson#469, bergson@6b3f36d, bergson@87ec756",
        "makes factors of positions with a label, and gradients of all",
        ("labelled-positions-only", "inputs-where-there-is-a-gradient"),
    ),
    Published(
        "",
        "masks values and not their count, or the values and not the 1",
        ("masked-sum-over-every-position", "ones-at-padding"),
    ),
)

# What is covered, and what is changed on the way.
_STATE = (
    Published(
        "bergson@e3846d2",
        "finds a tied parameter under one of its names",
        ("first-use-only",),
    ),
    Published(
        "avalanche#480",
        "stops at parameters that are frozen",
        why_none="It raises an exception, and no number is wrong; the kit freezes nothing.",
    ),
    Published(
        "kfac-pytorch@06af951",
        "accumulates live tensors, which others write to",
        ("data-overwritten", "product-over-v"),
    ),
    Published(
        "kfac-pytorch#267",
        "never sees a weight that is used outside its module, and fails late",
        ("unknown-layers-ignored", "first-use-only"),
    ),
    Published(
        "bergson@3f1a015, bergson@fe12647",
        "splits a layer into heads and loses rows that none of them covers",
        ("odd-output-left-over",),
    ),
    Published(
        "backpack@c8ba1c6d",
        "assigns an option to itself, so that the other choice is never used",
        (
            "expand-for-reduce",
            "reduce-for-expand",
            "exact-for-empirical",
            "kfac-expand-for-reduce",
        ),
    ),
    Published(
        "curvlinops#77, curvlinops#78",
        "returns entries as they came after its map of parameters went stale",
        ("column-untouched", "eigenvectors-of-the-call-before"),
    ),
    Published(
        "curvlinops#301, curvlinops@da9b5c9, curvlinops#104",
        "leaves requires_grad and .grad of the caller's tensors changed",
        ("requires-grad-left-on", "gradients-left-behind"),
    ),
    Published(
        "nngeometry@6c3aee0, backpack#160, Laplace#18",
        "gives per-sample gradients in spite of BatchNorm in train mode",
        ("batch-norm-in-eval-mode",),
    ),
    Published(
        "curvlinops#133, kfac-pytorch@6bb29d8, kfac-pytorch@c8cb1b5, stable-baselines#1",
        "computes in another dtype than the one that was asked for",
        ("basis-in-half-precision", "lambda-in-half-precision", "product-in-half-precision"),
    ),
)

# Storing, sending, testing.
_OTHERS = (
    Published(
        "kfac-pytorch@e5d6193",
        "reads pairs of real and imaginary parts as eigenvalues",
        ("imaginary-parts-between",),
    ),
    Published(
        "kfac-pytorch@8bd169c",
        "sends one triangle of eigenvectors, as if they were symmetric",
        ("eigenvectors-packed",),
    ),
    Published(
        "bergson@9444e59, bergson@e261030, bergson@40aafde, bergson@bfc2938",
        "shards sizes that do not divide, sums for averages, and visits keys in hash order",
        ("odd-output-left-over", "sum-over-samples"),
    ),
    Published(
        "kfac-jax@e3da816, kfac-jax@959bd86",
        "lets the factors of devices drift apart, and normalises on each of them",
        why_none=_PROCESSES,
    ),
    Published(
        "backpack#265",
        "tests on three samples, within a tenth, what holds for one",
        why_none=_TESTS,
    ),
    Published(
        "bergson@4b9b255",
        "weighs layers by their shape, through the scale of random projections",
        ("over-parameters",),
    ),
)

PUBLISHED: tuple[Published, ...] = (
    *(*_SCALES, *_SQUARES, *_CONVOLUTIONS, *_EIGENVALUES, *_ORDERS, *_BIASES),
    *(*_SOLVES, *_LABELS, *_DATA, *_STATE, *_OTHERS),
)
