"""What people do to a model before its curvature is asked for, and with its optimizer."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2LMHeadModel

import ekfac_ref as ek
from ekfac_ref.optim import EKFAC
from tests_models.architectures import ARCHITECTURES, IGNORED, present
from tests_models.loop import called, loss

NAMES = ("GPT2", "Llama")


@pytest.fixture(autouse=True)
def _slower_ways_are_ways() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def layers(model: nn.Module) -> tuple[str, ...]:
    """All but the embeddings and the head."""
    kinds = ("Conv1D", "Linear")
    return tuple(
        n for n, m in model.named_modules() if type(m).__name__ in kinds and "head" not in n
    )


def problem(name: str, inputs: Any = None, model: nn.Module | None = None) -> ek.Problem:
    """Of a model and a batch that are the same every time."""
    torch.manual_seed(1)
    architecture = ARCHITECTURES[name]
    own = architecture.model()
    given, labels = architecture.batch()
    model = own if model is None else model
    batch = (given if inputs is None else {**given, **inputs}, labels)
    return ek.Problem(
        model,
        [batch],
        ek.Categorical(),
        fisher=ek.Empirical(),
        layers=layers(model),
        mask=architecture.mask,
    )


def seen_of(
    model: nn.Module, names: Iterable[str], inputs: Any
) -> tuple[Any, dict[str, tuple[Tensor, Tensor]]]:
    """What the model returns, and {layer: (what goes in, what comes out)} by hooks."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def hook(name: str) -> Callable[..., None]:
        def keep(module: nn.Module, x: tuple[Tensor, ...], y: Tensor) -> None:
            seen[name] = (x[0].detach(), y)

        return keep

    hooks = [model.get_submodule(name).register_forward_hook(hook(name)) for name in names]
    outputs = called(model, inputs)
    for one in hooks:
        one.remove()
    return outputs, seen


def checkpointed(model: nn.Module) -> None:
    model.gradient_checkpointing_enable()


def reentrant_in_training(model: nn.Module) -> None:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def prepared_for_quantized_training(model: nn.Module) -> None:
    """QLoRA's: the embedding's output requires a gradient, by a hook."""
    model.enable_input_require_grads()


def compiled(model: nn.Module) -> None:
    for block in (m for m in model.modules() if isinstance(m, nn.ModuleList)):
        block[0].compile()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change", [checkpointed, reentrant_in_training, prepared_for_quantized_training, compiled]
)
def test_what_is_left_over_changes_no_number(
    name: str, change: Callable[[nn.Module], None]
) -> None:
    plain, changed = problem(name), problem(name)
    change(changed.model)
    one, other = ek.ekfac(plain), ek.ekfac(changed)
    (G,), (H,) = ek.per_sample_gradients(plain), ek.per_sample_gradients(changed)
    for layer in plain.layers or ():
        torch.testing.assert_close(G[layer], H[layer], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(
            one[layer].matvec(G[layer][0, 0]), other[layer].matvec(G[layer][0, 0])
        )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "constants",
    [
        {"use_cache": False, "position_ids": None},
        {"output_hidden_states": True, "return_dict": None},
        {"labels": torch.zeros(3, 5, dtype=torch.long)},
        {"logits_to_keep": 0},
    ],
    ids=lambda constants: next(iter(constants)),
)
def test_constants_among_the_inputs_change_no_number(name: str, constants: dict[str, Any]) -> None:
    one, other = ek.ekfac(problem(name)), ek.ekfac(problem(name, constants))
    for layer, E in one.items():
        torch.testing.assert_close(E.trace(), other[layer].trace())


@pytest.mark.parametrize("name", NAMES)
def test_factors_of_a_padded_batch(name: str) -> None:
    """A is a mean over tokens that are no padding, B a sum over positions; by hooks."""
    question = problem(name)
    ((inputs, labels),) = question.batches
    kept = inputs["attention_mask"].bool().reshape(-1)
    model = question.model
    outputs, seen = seen_of(model, question.layers or (), inputs)
    total = loss(outputs.logits, labels)
    gradients = torch.autograd.grad(total, [y for _, y in seen.values()])
    K = ek.kfac(question)
    for (layer, (x, _)), g in zip(seen.items(), gradients, strict=True):
        a = x.reshape(-1, x.shape[-1])
        if getattr(model.get_submodule(layer), "bias", None) is not None:
            a = torch.cat([a, torch.ones_like(a[:, :1])], 1)
        g_rows = g.reshape(-1, g.shape[-1])
        assert not g_rows[~kept].any()
        A, B = a[kept].T @ a[kept] / kept.sum(), g_rows.T @ g_rows / len(labels)
        torch.testing.assert_close(K[layer].A, A, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(K[layer].B, B, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_targets_are_those_of_the_models_own_loss(name: str) -> None:
    """Which moves labels to the left inside, and is a mean over those that count, in float32."""
    question = problem(name)
    ((inputs, labels),) = question.batches
    own = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)
    mean = question.model(**inputs, labels=own).loss
    mean.backward()
    (G,) = ek.per_sample_gradients(question)
    for layer in ek.parameters_of(question):
        found = layer.from_matrix(G[layer.name].sum((0, 1)) / (labels != IGNORED).sum())
        for parameter, gradient in found.items():
            expected = question.model.get_parameter(parameter).grad
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizer_takes_a_tokenizers_batch(name: str) -> None:
    question = problem(name)
    ((inputs, labels),) = question.batches
    model = question.model
    optimizer = EKFAC(
        model,
        ek.Categorical(),
        lr=0.1,
        damping=0.1,
        fisher=ek.Empirical(),
        layers=question.layers,
        mask=question.mask,
    )
    before = float(loss(called(model, inputs).logits, labels))
    for _ in range(5):
        optimizer.zero_grad()
        optimizer.update(inputs, labels)
        (loss(called(model, inputs).logits, labels) / len(labels)).backward()
        optimizer.step()
    assert float(loss(called(model, inputs).logits, labels)) < before


class Adapter(nn.Module):
    """LoRA, as peft has it: y + B A x, beside a frozen layer."""

    def __init__(self, base: nn.Module, d_in: int, d_out: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A, self.B = nn.Linear(d_in, 2, bias=False), nn.Linear(2, d_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.B(self.A(x))


def test_a_frozen_base_with_adapters_needs_no_names() -> None:
    torch.manual_seed(1)
    architecture = ARCHITECTURES["GPT2"]
    model = architecture.model()
    assert isinstance(model, GPT2LMHeadModel)
    model.requires_grad_(False)
    for block in model.transformer.h:
        block.attn.c_attn = Adapter(block.attn.c_attn, 8, 24)
    model.double()
    inputs, labels = architecture.batch()
    question = ek.Problem(
        model, [(inputs, labels)], ek.Categorical(), fisher=ek.Empirical(), mask=architecture.mask
    )
    E, F = ek.ekfac(question), ek.exact_fisher(question)
    assert list(E) == list(F)
    assert len(E) == 4
    for layer, block in E.items():
        torch.testing.assert_close(block.trace(), F[layer].trace())


def test_an_encoder_and_a_decoder_are_two_problems() -> None:
    """Each with the mask of its own positions: keys and values from the encoder are with it."""
    torch.manual_seed(1)
    architecture = ARCHITECTURES["T5"]
    model = architecture.model()
    inputs, labels = architecture.batch()
    linear = [n for n, m in model.named_modules() if type(m) is nn.Linear and n != "lm_head"]
    keys_and_values = ("EncDecAttention.k", "EncDecAttention.v")
    of_source = [n for n in linear if n.startswith("encoder") or n.endswith(keys_and_values)]
    of_target = [n for n in linear if n not in of_source]
    of_words = inputs["attention_mask"].bool()
    all_words = torch.ones_like(inputs["decoder_input_ids"]).bool()
    for names, mask, kept in (
        (of_source, present, of_words),
        (of_target, lambda given: None, all_words),
    ):
        question = ek.Problem(
            model,
            [(inputs, labels)],
            ek.Categorical(),
            fisher=ek.Empirical(),
            layers=tuple(names),
            mask=mask,
        )
        K = ek.kfac(question)
        _, seen = seen_of(model, names, inputs)
        for name, (x, _) in seen.items():
            torch.testing.assert_close(K[name].A, x[kept].T @ x[kept] / kept.sum())
