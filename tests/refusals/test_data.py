"""Refused: batches that are none, targets that do not fit, values that are no numbers."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import ekfac_ref as ek
from tests.support.refusals import ENTRIES, Arguments, Cases, assert_refused, regression

case = Cases()

X, Y = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), torch.zeros(5, 2)
WORDS = torch.tensor([[0, 5], [1, 1], [2, 3], [4, 0], [5, 5]])


class Once:
    """Can be iterated, but gives its batches to the first that asks."""

    def __init__(self, *batches: Any) -> None:
        self.rest = iter(batches)

    def __iter__(self) -> Iterator[Any]:
        yield from self.rest


def linear(inputs: Tensor = X, targets: Tensor = Y, **options: Any) -> Arguments:
    return regression(nn.Sequential(nn.Linear(3, 2)), inputs, targets) | options


def labelled(targets: Tensor, likelihood: Any = None, classes: int = 2) -> Arguments:
    likelihood = ek.Categorical() if likelihood is None else likelihood
    return regression(nn.Sequential(nn.Linear(3, classes)), X, targets) | {"likelihood": likelihood}


def changed(x: Tensor, index: Any, value: float) -> Tensor:
    x = x.clone()
    x[index] = value
    return x


def batches(*several: Any) -> Arguments:
    return linear(batches=list(several))


@case("inputs: NaN or infinity in the batch at sample 3", "clean the data")
def nan_input() -> Arguments:
    return linear(changed(X, (4, 1), torch.nan))


@case("inputs: NaN or infinity in the batch at sample 0", "clean the data")
def infinite_input() -> Arguments:
    return linear(changed(X, (0, 2), torch.inf))


@case("targets: NaN or infinity in the batch at sample 3", "clean the data")
def infinite_target() -> Arguments:
    return linear(targets=changed(Y, (3, 0), -torch.inf))


@case("batches: there are none", "pass at least one (inputs, targets)")
def no_batches() -> Arguments:
    return batches()


@case("the batch at sample 5 has [0, 0]", "Drop empty batches")
def empty_batch() -> Arguments:
    return batches((X, Y), (X[:0], Y[:0]))


@case("batches: axis 0 counts the samples", "the batch at sample 0 has [5, 4]")
def fewer_targets_than_inputs() -> Arguments:
    return batches((X, Y[:4]))


@case("batches: axis 0 counts the samples", "add the axis")
def target_without_axes() -> Arguments:
    return batches((X[0], Y[0, 0]))


@case("batches: a TensorDataset has samples, and no batches", "DataLoader(dataset, batch_size")
def dataset() -> Arguments:
    return linear(batches=TensorDataset(X, Y))


@case("batches: list_iterator cannot be iterated again", "pass a list, a DataLoader")
def iterator() -> Arguments:
    return linear(batches=iter([(X, Y)]))


@case("batches: generator cannot be iterated again", "list(batches)")
def generator_expression() -> Arguments:
    return linear(batches=((x[None], y[None]) for x, y in zip(X, Y, strict=True)))


@case("batches: zip cannot be iterated again", "list(batches)")
def zipped() -> Arguments:
    return linear(batches=zip([X], [Y], strict=True))


@case("batches: NoneType cannot be iterated", "pass a list")
def nothing_to_iterate() -> Arguments:
    return linear(batches=None)


@case("batches: each is to be a pair (inputs, targets), but one is a Tensor", "[(inputs, targets)]")
def one_pair_instead_of_a_list() -> Arguments:
    return linear(batches=(X, Y))


@case("batches: each is to be a pair (inputs, targets), but one is a tuple of 3", "one tuple")
def three_items() -> Arguments:
    return batches((X, X, Y))


@case("batches: each is to be a pair (inputs, targets), but one is a dict", "one tuple or dict")
def batch_as_dict() -> Arguments:
    return batches({"inputs": X, "labels": Y})


@case("batches: each is to be a pair (inputs, targets), but one is a NoneType", "(inputs, targets)")
def no_batch_between_batches() -> Arguments:
    return batches((X, Y), None, (X, Y))


@case("one of the inputs at sample 0 is a ndarray", "torch.as_tensor")
def numpy_arrays() -> Arguments:
    return batches((X.numpy(), Y))


@case("inputs: there is no tensor among them", "a tensor, a tuple or a dict")
def empty_inputs() -> Arguments:
    return batches(((), Y))


@case("model: its outputs are empty, of shape", "leave out batches whose samples have no")
def samples_without_positions() -> Arguments:
    return linear(torch.zeros(5, 0, 3), torch.zeros(5, 0, 2))


@case("inputs: on meta, but the model is on cpu", ".to('cpu')")
def inputs_elsewhere() -> Arguments:
    return linear(X.to("meta"))


@case("targets: on meta, but the model is on cpu", ".to('cpu')")
def targets_elsewhere() -> Arguments:
    return linear(targets=Y.to("meta"))


@case("layer '0': inputs are torch.float64, its weight torch.float32", ".to(torch.float32)")
def inputs_of_another_dtype() -> Arguments:
    return linear(X.double())


@case("layer '0': it was given torch.int64, but takes inputs of torch.float32", "convert the data")
def integer_inputs() -> Arguments:
    return linear(torch.ones(5, 3, dtype=torch.int64))


@case("layer '0': it was given torch.float32, but takes integer indices", "convert the data")
def words_as_floats() -> Arguments:
    model = nn.Sequential(nn.Embedding(6, 2), nn.Flatten())
    return regression(model, WORDS.float(), torch.zeros(5, 4))


@case("layer '0': ", "index out of range")
def word_out_of_range() -> Arguments:
    model = nn.Sequential(nn.Embedding(5, 2), nn.Flatten())
    return regression(model, WORDS, torch.zeros(5, 4))


@case("an index is out of range", "num_embeddings")
def word_out_of_range_late() -> Arguments:
    model = nn.Sequential(nn.Embedding(5, 2), nn.Flatten())
    return regression(model, changed(0 * WORDS, (4, 1), 5), torch.zeros(5, 4))


@case("layer '0': ", "bring the data into the shape")
def too_many_features() -> Arguments:
    return linear(torch.ones(5, 4))


@case("layer '0': ", "bring the data into the shape")
def too_few_axes() -> Arguments:
    return regression(nn.Sequential(nn.Conv2d(1, 2, 2)), torch.ones(5, 3), torch.zeros(5, 2))


@case("model: its forward failed", "unexpected keyword argument 'y'")
def wrong_keyword() -> Arguments:
    return batches(({"input": X, "y": X}, Y))


@case("targets: shape [1, 3]", "exactly that shape")
def gaussian_targets_too_wide() -> Arguments:
    return linear(targets=torch.zeros(5, 3))


@case("targets: shape [1]", "nothing is broadcast")
def gaussian_targets_without_outputs() -> Arguments:
    return linear(targets=torch.zeros(5))


@case("targets: dtype torch.float64, but the model returned torch.float32", "y.to(torch.float32)")
def gaussian_targets_of_another_dtype() -> Arguments:
    return linear(targets=Y.double())


@case("targets: dtype torch.int64", "y.to(torch.float32)")
def bernoulli_targets_as_integers() -> Arguments:
    return labelled(Y.long(), ek.Bernoulli())


@case("targets: Bernoulli labels lie in [0, 1], but these reach from -1 to 1", "0/1 labels")
def bernoulli_targets_of_both_signs() -> Arguments:
    return labelled(torch.tensor([[-1.0, 1.0]] * 5), ek.Bernoulli())


@case("targets: Poisson counts are not negative, but the smallest is -2", "the counts themselves")
def negative_counts() -> Arguments:
    return labelled(torch.full((5, 2), -2.0), ek.Poisson())


@case("targets: Categorical takes integer class labels, not torch.float32", "y.argmax")
def soft_targets() -> Arguments:
    return labelled(torch.full((5, 2), 0.5))


@case("targets: Categorical takes integer class labels, not torch.bool", "labels")
def boolean_labels() -> Arguments:
    return labelled(torch.ones(5, dtype=torch.bool))


@case("targets: shape [1, 1]", "labels of shape [1]")
def labels_with_an_axis_too_many() -> Arguments:
    return labelled(torch.zeros(5, 1, dtype=torch.int64))


@case("targets: shape [1, 4]", "class_axis (-1: classes last, 1: torch's layout)")
def labels_for_another_class_axis() -> Arguments:
    model = nn.Sequential(nn.Conv1d(1, 2, 1))
    labels = torch.zeros(5, 4, dtype=torch.int64)
    return regression(model, torch.ones(5, 1, 4), labels) | {"likelihood": ek.Categorical()}


@case("likelihood: Categorical(class_axis=2) needs an output", "class_axis=-1")
def class_axis_that_is_not_there() -> Arguments:
    return labelled(torch.zeros(5, dtype=torch.int64), ek.Categorical(class_axis=2))


@case("likelihood: Categorical(class_axis=0) needs an output", "class_axis=1")
def class_axis_of_the_samples() -> Arguments:
    return labelled(torch.zeros(5, dtype=torch.int64), ek.Categorical(class_axis=0))


@case("targets: label 3 is out of range: the output has 3 classes, 0 to 2", "Correct the label")
def label_too_large() -> Arguments:
    return labelled(torch.tensor([0, 1, 2, 3, 0]), classes=3)


@case("targets: label -1 is out of range", "Categorical(ignore_index=...)")
def negative_label() -> Arguments:
    return labelled(torch.tensor([0, 1, -1, 1, 0]))


test_data_that_does_not_fit_is_refused = case.at(ENTRIES)


@pytest.mark.parametrize("fisher", [ek.Exact(), ek.Sampled(), ek.Empirical()])
def test_targets_are_checked_under_every_fisher(fisher: Any) -> None:
    arguments = linear(targets=torch.zeros(5, 3), fisher=fisher)
    assert_refused(ek.ekfac, arguments, "targets: shape [1, 3]", "exactly that shape")


def test_batches_that_an_earlier_pass_has_used_up_are_missed() -> None:
    arguments = linear(batches=Once((X, Y), (X, Y)))
    assert_refused(ek.ekfac, arguments, "batches: there are none", "pass a list")
