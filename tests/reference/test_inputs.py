"""Constants beside tensors, mappings of any type, and outputs in whatever a model returns."""

from collections import OrderedDict, UserDict
from collections.abc import Callable
from enum import Enum
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC
from ekfac_ref.question.batches import COMPARED, Batch
from tests.support.one_by_one import check

X, Y = torch.randn(5, 3, 4).double(), torch.randn(5, 2).double()
PRESENT = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1], [1, 1, 0]])


class Pooling(Enum):
    SUM = "sum"
    LAST = "last"


class Model(nn.Module):
    """What it does to tokens depends on constants; it returns what it is told to."""

    def __init__(self, returned: Callable[..., Any] = lambda f, h: f) -> None:
        super().__init__()
        self.token, self.head = nn.Linear(4, 3), nn.Linear(3, 2)
        self.returned = returned

    def forward(
        self,
        x: Tensor,
        attention_mask: Tensor | None = None,
        pooling: Any = "sum",
        scale: float = 1.0,
        squared: bool = False,
        nested: Any = None,
        act: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> Any:
        h = act(self.token(x))
        if attention_mask is not None:
            h = h * attention_mask[..., None]
        if nested is not None:
            h = h * nested["by"] if nested["use"] else h
        name = pooling.value if isinstance(pooling, Pooling) else pooling
        f = self.head(scale * (h.sum(1) if name == "sum" else h[:, -1]))
        return self.returned(f * f if squared else f, h)


def problem(inputs: Any, model: nn.Module | None = None, **options: Any) -> ek.Problem:
    model = Model() if model is None else model
    return ek.Problem(model.double(), [(inputs, Y)], ek.Gaussian(), **options)


class Fixed(nn.Module):
    """The same network, with its constants given inside."""

    def __init__(self, model: Model, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.token, self.head = model.token, model.head
        self.call = lambda x: model(x, *args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x)


def double(h: Tensor) -> Tensor:
    return 2 * h


CONSTANTS: dict[str, dict[str, Any]] = {
    "None": {"attention_mask": None},
    "a text": {"pooling": "last"},
    "an enum": {"pooling": Pooling.LAST},
    "a number": {"scale": 3.0},
    "a bool": {"squared": True},
    "a function": {"act": double},
    "in a mapping": {"nested": MappingProxyType({"use": False, "by": X[:, :, :1] + 5})},
}


@pytest.mark.parametrize("name", CONSTANTS)
@pytest.mark.parametrize("mapping", [dict, UserDict, OrderedDict, MappingProxyType])
def test_constants_are_passed_on_as_they_are(name: str, mapping: Callable[..., Any]) -> None:
    given, model = CONSTANTS[name], Model()
    check(problem(mapping({"x": X, **given}), model), problem(X, Fixed(model, **given)))


def test_constants_among_several_inputs_in_order() -> None:
    model = Model()
    given = (None, "last", 2.0)
    check(problem((X, *given), model), problem(X, Fixed(model, *given)))
    check(problem([X, *given], model), problem(X, Fixed(model, *given)))


def test_a_mapping_within_is_cut_into_samples() -> None:
    """A tensor in it is of its sample; a view of all would fit a sample alone, and be wrong."""
    model, by = Model(), torch.randn(5, 1, 1).double()
    inputs = UserDict(x=X, nested=UserDict(use=True, by=by))
    flat = Model()
    flat.load_state_dict(model.double().state_dict())

    def forward(x: Tensor, by: Tensor) -> Tensor:
        return Model.forward(flat, x, nested={"use": True, "by": by})

    flat.forward = forward
    check(problem(inputs, model), problem((X, by), flat))


def test_batches_that_differ_in_a_constant_alone_are_of_two_forms() -> None:
    """A layer that one batch uses once and another twice: what is known of the one is not taken
    for the other.
    """

    class Often(Model):
        def forward(self, x: Tensor, often: int) -> Tensor:
            h = torch.tanh(self.token(x)).sum(1)
            return sum(self.head(h * k) for k in range(1, often + 1))

    model = Often().double()
    both = ek.Problem(model, [((X, 1), Y), ((X, 2), Y), ((X, True), Y)], ek.Gaussian())
    apart = [ek.Problem(model, [((X, n), Y)], ek.Gaussian()) for n in (1, 2, 1)]
    F = ek.exact_fisher(both)["head"].dense()
    parts = [ek.exact_fisher(one)["head"].dense() for one in apart]
    torch.testing.assert_close(F, sum(parts) / 3)
    E = ek.ekfac(both)["head"]
    torch.testing.assert_close(E.trace(), F.trace())


def test_nothing_of_a_tokenizers_mapping_is_changed() -> None:
    inputs = UserDict(x=X.clone(), attention_mask=PRESENT.double(), pooling="sum")
    before = dict(inputs.data)
    ek.ekfac(problem(inputs, mask=lambda given: given["attention_mask"] > 0))
    assert inputs.data == before
    assert all(inputs[name] is before[name] for name in before)
    torch.testing.assert_close(inputs["x"], X)


RETURNED: dict[str, tuple[Callable[..., Any], Any]] = {
    "logits": (lambda f, h: OrderedDict(loss=h.sum(), logits=f, hidden_states=(h,)), None),
    "the only tensor": (lambda f, h: {"f": f, "cache": None, "past": (h,)}, None),
    "chosen by name": (lambda f, h: UserDict(pooled=f, logits=h), lambda o: o["pooled"]),
    "chosen by place": (lambda f, h: (h, f), lambda o: o[1]),
    "made of a tensor": (lambda f, h: f[:, None], lambda o: o[:, 0]),
}


@pytest.mark.parametrize("name", RETURNED)
def test_outputs_are_found_or_chosen(name: str) -> None:
    returned, output = RETURNED[name]
    model = Model(returned)
    plain = Model()
    plain.load_state_dict(model.double().state_dict())
    check(problem(X, model, output=output), problem(X, plain))


def test_an_optimizer_takes_an_output_and_a_mapping() -> None:
    model = Model(lambda f, h: {"f": f, "h": h}).double()
    optimizer = EKFAC(
        model,
        ek.Gaussian(),
        lr=0.1,
        damping=0.1,
        momentum=0.0,
        kl_clip=None,
        output=lambda o: o["f"],
    )
    optimizer.update(UserDict(x=X, pooling="last"), Y)
    found = optimizer.preconditioner.operators
    E = ek.ekfac(problem({"x": X, "pooling": "last"}, model, output=lambda o: o["f"]))
    torch.testing.assert_close(found["token"].dense(), E["token"].dense())


def test_padding_that_no_mask_leaves_out_is_said_once() -> None:
    inputs = UserDict(x=X, attention_mask=PRESENT)
    with pytest.warns(UserWarning, match="padding counts among the positions") as said:
        ek.ekfac(problem(inputs))
    assert len(said) == 1
    for mask in ("lambda inputs: inputs['attention_mask'].bool()", "lambda inputs: None"):
        assert f" mask={mask}" in str(said[0].message)
        ek.ekfac(problem(inputs, mask=eval(mask)))
    ek.exact_fisher(problem(inputs))  # has no A
    ek.ekfac(problem(inputs, layers=("head",)))  # has no positions


def test_padding_counts_in_A_or_not() -> None:
    """In a layer whose inputs are the data: a mean over all 15 tokens, or over the 11 present."""
    inputs = {"x": X, "attention_mask": PRESENT}
    everything = ek.kfac(problem(inputs, mask=lambda given: None))["token"]
    present = ek.kfac(problem(inputs, mask=lambda given: given["attention_mask"].bool()))["token"]
    rows = torch.cat([X, torch.ones_like(X[..., :1])], -1)
    for found, a in ((everything, rows.flatten(0, 1)), (present, rows[PRESENT.bool()])):
        torch.testing.assert_close(found.A, a.T @ a / len(a))


def test_a_mask_that_is_1_everywhere_is_no_padding() -> None:
    for mask in (torch.ones(5, 3).double(), torch.ones(5, 3, dtype=torch.bool)):
        ek.ekfac(
            problem({"x": X, "attention_mask": mask.to(X) if mask.is_floating_point() else mask})
        )


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_the_first_three_that_differ_are_found_among_many(kinds: int) -> None:
    """By one input or another, and wherever the next one stands."""
    generator = torch.Generator().manual_seed(kinds)
    for N in [*range(1, 40), 200]:
        x = torch.randint(0, kinds, (N, 2), generator=generator).double()
        y = torch.randint(0, kinds, (N,), generator=generator)
        x[N // 2 :] += N % 3
        x[N - N // 9 :] += 5
        pairs = [(*row, word) for row, word in zip(x.tolist(), y.tolist(), strict=True)]
        first = [n for n, pair in enumerate(pairs) if pair not in pairs[:n]][:COMPARED]
        few, number = Batch({"x": x, "y": y, "scale": 2}, torch.arange(N), None, 0).few()
        assert number == len(first)
        assert few.targets.tolist() == ([0, 1] if len(first) == 1 < N else first)
