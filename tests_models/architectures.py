"""Networks that nobody here wrote, each with a batch of three samples as people have them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn
from transformers import BatchEncoding

WORDS, T, IGNORED = 20, 5, -100
SIZES = {
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
TEXT = {**SIZES, "vocab_size": WORDS, "max_position_embeddings": 10, "pad_token_id": 0}
NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}


@dataclass(frozen=True)
class Architecture:
    """A model of ``build()`` in float64, and its batch.

    Attributes:
        build: random weights, in whatever mode its config leaves it.
        batch: inputs and the labels of the outputs.
        outputs: logits [N, *positions, classes] from what the model returns.
        mask: as in Problem.
        output: as in Problem.
    """

    build: Callable[[], nn.Module]
    batch: Callable[[], tuple[Any, Tensor]]
    outputs: Callable[[Any], Tensor] = lambda returned: returned.logits
    mask: Callable[[Any], Tensor] | None = None
    output: Callable[[Any], Tensor] | None = None

    def model(self) -> nn.Module:
        """In eval mode, and no weight as small or as equal to others as it is at the start."""
        model = self.build().double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        return model


def present(inputs: Any) -> Tensor:
    """Which tokens are no padding."""
    return inputs["attention_mask"].bool()


def tokenized(left: bool = False) -> BatchEncoding:
    """Three sentences of 5, 3 and 4 words, as a tokenizer pads them: right, or left."""
    ids = torch.randint(1, WORDS, (3, T))
    mask = torch.ones(3, T, dtype=torch.long)
    for n, padding in enumerate((0, 2, 1)):
        mask[n, : padding if left else 0] = 0
        mask[n, T if left else T - padding :] = 0
    return BatchEncoding({"input_ids": ids * mask, "attention_mask": mask})


def labels_of(inputs: BatchEncoding) -> Tensor:
    """The words themselves, IGNORED where there is padding."""
    return inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, IGNORED)


def next_words(left: bool = False) -> tuple[BatchEncoding, Tensor]:
    """Each label one to the left; padding is not asked for the first word behind it."""
    inputs = tokenized(left)
    labels = nn.functional.pad(labels_of(inputs)[:, 1:], (0, 1), value=IGNORED)
    return inputs, labels.masked_fill(inputs["attention_mask"] == 0, IGNORED)


def masked_words() -> tuple[BatchEncoding, Tensor]:
    """Every second word is hidden, and to be found."""
    inputs = tokenized()
    labels = labels_of(inputs)
    labels[:, ::2] = IGNORED
    inputs["input_ids"][:, 1::2] *= 0
    return inputs, labels


def sentences() -> tuple[BatchEncoding, Tensor]:
    """One label of two for each."""
    return tokenized(), torch.tensor([0, 1, 1])


def translated() -> tuple[BatchEncoding, Tensor]:
    """A padded source, and a target of four words."""
    inputs, labels = next_words()
    inputs["decoder_input_ids"] = torch.randint(1, WORDS, (3, 4))
    return inputs, labels[:, :4]


def spoken() -> tuple[dict[str, Any], Tensor]:
    """Twelve frames of four features, four words."""
    words = torch.randint(1, WORDS, (3, 4))
    sound = torch.randn(3, 4, 12).double()
    return {"input_features": sound, "decoder_input_ids": words, "use_cache": False}, words


def pictures(size: int = 8, classes: int = 3) -> tuple[dict[str, Any], Tensor]:
    """As an image processor has them."""
    return {"pixel_values": torch.randn(3, 3, size, size).double()}, torch.tensor([0, 2, 1])


def whisper() -> nn.Module:
    config = hf.WhisperConfig(
        vocab_size=WORDS,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        max_source_positions=6,
        max_target_positions=8,
        num_mel_bins=4,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    return hf.WhisperForConditionalGeneration(config)


def t5() -> nn.Module:
    config = hf.T5Config(
        vocab_size=WORDS,
        d_model=8,
        d_kv=4,
        d_ff=12,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return hf.T5ForConditionalGeneration(config)


def bart() -> nn.Module:
    config = hf.BartConfig(
        vocab_size=WORDS,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=12,
        decoder_ffn_dim=12,
        max_position_embeddings=10,
        pad_token_id=0,
        **NO_TOKENS,
    )
    return hf.BartForConditionalGeneration(config)


def rwkv() -> nn.Module:
    """Called once, since its first call in eval mode halves weights."""
    config = hf.RwkvConfig(
        vocab_size=WORDS,
        hidden_size=8,
        attention_hidden_size=8,
        num_hidden_layers=2,
        intermediate_size=12,
        context_length=10,
        rescale_every=1,
        use_cache=False,
    )
    model = hf.RwkvForCausalLM(config).eval()
    with torch.no_grad():
        model(input_ids=torch.ones(1, 2, dtype=torch.long))
    return model


GPT2 = {"n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": WORDS, "n_positions": 10}
GROUPED = {**TEXT, "num_key_value_heads": 1}


def gpt2(**options: Any) -> nn.Module:
    return hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, **NO_TOKENS, **options))


EXPERTS = {"num_experts_per_tok": 2, "experts_implementation": "eager"}


ARCHITECTURES: dict[str, Architecture] = {
    "Mixtral": Architecture(
        lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, **EXPERTS, num_local_experts=3)),
        next_words,
    ),
    "Mixtral, one expert each": Architecture(
        lambda: hf.MixtralForCausalLM(
            hf.MixtralConfig(
                **GROUPED,
                num_local_experts=2,
                num_experts_per_tok=1,
                experts_implementation="eager",
            )
        ),
        next_words,
    ),
    "DeepSeek V3": Architecture(
        lambda: hf.DeepseekV3ForCausalLM(
            hf.DeepseekV3Config(
                **TEXT,
                **EXPERTS,
                num_key_value_heads=2,
                q_lora_rank=4,
                kv_lora_rank=4,
                qk_rope_head_dim=2,
                qk_nope_head_dim=4,
                v_head_dim=4,
                n_routed_experts=4,
                n_shared_experts=1,
                moe_intermediate_size=6,
                first_k_dense_replace=1,
                n_group=1,
                topk_group=1,
            )
        ),
        next_words,
    ),
    "Qwen2-MoE": Architecture(
        lambda: hf.Qwen2MoeForCausalLM(
            hf.Qwen2MoeConfig(
                **GROUPED,
                **EXPERTS,
                num_experts=3,
                moe_intermediate_size=6,
                shared_expert_intermediate_size=5,
            )
        ),
        next_words,
    ),
    "GPT-OSS": Architecture(
        lambda: hf.GptOssForCausalLM(
            hf.GptOssConfig(**GROUPED, **EXPERTS, num_local_experts=3, head_dim=4)
        ),
        next_words,
    ),
    "Llama 4": Architecture(
        lambda: hf.Llama4ForCausalLM(
            hf.Llama4TextConfig(
                **GROUPED, head_dim=4, intermediate_size_mlp=12, num_local_experts=2
            )
        ),
        next_words,
    ),
    "Falcon": Architecture(
        lambda: hf.FalconForCausalLM(
            hf.FalconConfig(
                vocab_size=WORDS,
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                bias=True,
                **NO_TOKENS,
            )
        ),
        next_words,
    ),
    "DeBERTa": Architecture(
        lambda: hf.DebertaV2ForTokenClassification(
            hf.DebertaV2Config(**TEXT, relative_attention=True, pos_att_type=["p2c", "c2p"])
        ),
        lambda: ((inputs := tokenized()), labels_of(inputs).clamp(max=1)),
    ),
    "XLNet": Architecture(
        lambda: hf.XLNetLMHeadModel(
            hf.XLNetConfig(vocab_size=WORDS, d_model=8, n_layer=1, n_head=2, d_inner=12)
        ),
        next_words,
    ),
    "wav2vec2": Architecture(
        lambda: hf.Wav2Vec2ForSequenceClassification(
            hf.Wav2Vec2Config(
                **SIZES,
                conv_dim=[4, 4],
                conv_kernel=[4, 2],
                conv_stride=[2, 2],
                num_feat_extract_layers=2,
                num_conv_pos_embeddings=2,
                num_conv_pos_embedding_groups=2,
                classifier_proj_size=4,
                num_labels=3,
            )
        ),
        lambda: ({"input_values": torch.randn(3, 40).double()}, torch.tensor([0, 2, 1])),
    ),
    "GPT2": Architecture(gpt2, next_words, mask=present),
    "GPT2 padded on the left": Architecture(gpt2, lambda: next_words(True), mask=present),
    "GPT2 untied": Architecture(lambda: gpt2(tie_word_embeddings=False), next_words, mask=present),
    "Llama": Architecture(
        lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GROUPED)), next_words, mask=present
    ),
    "Qwen2": Architecture(
        lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GROUPED)), next_words, mask=present
    ),
    "Mistral": Architecture(
        lambda: hf.MistralForCausalLM(hf.MistralConfig(**GROUPED, sliding_window=3)),
        next_words,
        mask=present,
    ),
    "Phi": Architecture(lambda: hf.PhiForCausalLM(hf.PhiConfig(**TEXT)), next_words, mask=present),
    "GPTNeoX": Architecture(
        lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**TEXT)), next_words, mask=present
    ),
    "OPT": Architecture(
        lambda: hf.OPTForCausalLM(
            hf.OPTConfig(
                vocab_size=WORDS,
                hidden_size=8,
                word_embed_proj_dim=8,
                ffn_dim=12,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=10,
                pad_token_id=0,
            )
        ),
        next_words,
    ),
    "Bloom": Architecture(
        lambda: hf.BloomForCausalLM(
            hf.BloomConfig(vocab_size=WORDS, hidden_size=8, n_layer=2, n_head=2, pad_token_id=0)
        ),
        next_words,
    ),
    "Gemma": Architecture(
        lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**GROUPED, head_dim=4)), next_words
    ),
    "BERT": Architecture(
        lambda: hf.BertForMaskedLM(hf.BertConfig(**TEXT)), masked_words, mask=present
    ),
    "BERT, sentences": Architecture(
        lambda: hf.BertForSequenceClassification(hf.BertConfig(**TEXT)), sentences, mask=present
    ),
    "BERT, pooled": Architecture(
        lambda: hf.BertModel(hf.BertConfig(**TEXT)),
        sentences,
        outputs=lambda returned: returned.pooler_output,
        output=lambda returned: returned.pooler_output,
    ),
    "RoBERTa": Architecture(lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(**TEXT)), masked_words),
    "DistilBERT": Architecture(
        lambda: hf.DistilBertForMaskedLM(
            hf.DistilBertConfig(
                vocab_size=WORDS, dim=8, hidden_dim=12, n_layers=2, n_heads=2, pad_token_id=0
            )
        ),
        masked_words,
    ),
    "ALBERT": Architecture(
        lambda: hf.AlbertForMaskedLM(hf.AlbertConfig(**TEXT, embedding_size=4)), masked_words
    ),
    "ELECTRA": Architecture(
        lambda: hf.ElectraForTokenClassification(hf.ElectraConfig(**TEXT, embedding_size=4)),
        lambda: ((inputs := tokenized()), labels_of(inputs).clamp(max=1)),
    ),
    "T5": Architecture(t5, translated),
    "BART": Architecture(bart, translated),
    "Whisper": Architecture(whisper, spoken),
    "ViT": Architecture(
        lambda: hf.ViTForImageClassification(
            hf.ViTConfig(**SIZES, image_size=8, patch_size=4, num_labels=3)
        ),
        pictures,
    ),
    "DeiT": Architecture(
        lambda: hf.DeiTForImageClassification(
            hf.DeiTConfig(**SIZES, image_size=8, patch_size=4, num_labels=3)
        ),
        pictures,
    ),
    "SegFormer": Architecture(
        lambda: hf.SegformerForImageClassification(
            hf.SegformerConfig(
                hidden_sizes=[4, 8],
                depths=[1, 1],
                num_encoder_blocks=2,
                sr_ratios=[2, 1],
                patch_sizes=[3, 3],
                strides=[2, 2],
                num_attention_heads=[1, 2],
                mlp_ratios=[2, 2],
                num_labels=3,
            )
        ),
        lambda: pictures(16),
    ),
    "ConvNeXt": Architecture(
        lambda: hf.ConvNextForImageClassification(
            hf.ConvNextConfig(hidden_sizes=[4, 6], depths=[1, 1], num_stages=2, num_labels=3)
        ),
        lambda: pictures(16),
    ),
    "Swin": Architecture(
        lambda: hf.SwinForImageClassification(
            hf.SwinConfig(
                image_size=16,
                patch_size=2,
                embed_dim=4,
                depths=[2, 1],
                num_heads=[1, 2],
                window_size=4,
                num_labels=3,
            )
        ),
        lambda: pictures(16),
    ),
    "ResNet": Architecture(
        lambda: hf.ResNetForImageClassification(
            hf.ResNetConfig(
                embedding_size=4,
                hidden_sizes=[4, 6],
                depths=[1, 1],
                layer_type="basic",
                num_labels=3,
            )
        ),
        lambda: pictures(16),
    ),
    "Llama, a rope that grows": Architecture(  # a number and a buffer, of the longest text so far
        lambda: hf.LlamaForCausalLM(
            hf.LlamaConfig(
                **{**GROUPED, "max_position_embeddings": 4},
                rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0},
            )
        ),
        next_words,
        mask=present,
    ),
    "Bamba": Architecture(  # a kernel given without its axis of length 1
        lambda: hf.BambaForCausalLM(
            hf.BambaConfig(
                **GROUPED,
                mamba_n_heads=4,
                mamba_d_head=4,
                mamba_d_state=4,
                mamba_d_conv=3,
                mamba_n_groups=1,
                mamba_chunk_size=4,
                attn_layer_indices=[1],
            )
        ),
        next_words,
    ),
    "RecurrentGemma": Architecture(  # states kept as attributes, with their graph
        lambda: hf.RecurrentGemmaForCausalLM(
            hf.RecurrentGemmaConfig(
                **{**GROUPED, "num_hidden_layers": 3},
                lru_width=8,
                head_dim=4,
                attention_window_size=4,
            )
        ),
        next_words,
    ),
    "RWKV": Architecture(rwkv, next_words),
    "LFM2": Architecture(
        lambda: hf.Lfm2ForCausalLM(
            hf.Lfm2Config(**GROUPED, conv_L_cache=3, layer_types=["conv", "full_attention"])
        ),
        next_words,
    ),
    "SqueezeBERT": Architecture(
        lambda: hf.SqueezeBertForMaskedLM(
            hf.SqueezeBertConfig(
                **TEXT,
                embedding_size=8,
                q_groups=2,
                k_groups=2,
                v_groups=2,
                post_attention_groups=1,
                intermediate_groups=2,
                output_groups=2,
            )
        ),
        masked_words,
    ),
    "DINOv3": Architecture(  # a Parameter of no registers
        lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**SIZES, image_size=8, patch_size=4)),
        pictures,
        outputs=lambda returned: returned.pooler_output,
        output=lambda returned: returned.pooler_output,
    ),
    "PatchTST": Architecture(
        lambda: hf.PatchTSTForClassification(
            hf.PatchTSTConfig(
                num_input_channels=2,
                context_length=16,
                patch_length=4,
                patch_stride=4,
                d_model=8,
                num_attention_heads=2,
                num_hidden_layers=1,
                ffn_dim=12,
                num_targets=3,
                use_cls_token=True,
            )
        ),
        lambda: ({"past_values": torch.randn(3, 16, 2).double()}, torch.tensor([0, 2, 1])),
        outputs=lambda returned: returned.prediction_logits,
        output=lambda returned: returned.prediction_logits,
    ),
}
