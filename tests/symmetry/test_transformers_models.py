"""Models of the `transformers` library with small configurations: exact groups, and the same function."""

from typing import Any

import pytest
import torch
from tests.symmetry.function_check import CLOSE, difference
from torch import nn

from onebasin.symmetry import check_permutations, find_permutations

transformers = pytest.importorskip("transformers")

TOKENS = torch.randint(1, 90, (2, 7), generator=torch.Generator().manual_seed(0))
PICTURE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SMALL: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 16,
}


def bert() -> nn.Module:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL))  # type: ignore[no-any-return]


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=16, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config)  # type: ignore[no-any-return]


def vit() -> nn.Module:
    sizes = {key: value for key, value in SMALL.items() if key not in ("vocab_size", "max_position_embeddings")}
    return transformers.ViTForImageClassification(  # type: ignore[no-any-return]
        transformers.ViTConfig(image_size=16, patch_size=4, **sizes)
    )


def llama() -> nn.Module:
    """Four heads of queries share two heads of keys and values; positions rotate pairs of query and key dimensions."""
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(num_key_value_heads=2, **SMALL))  # type: ignore[no-any-return]


STREAM = (32,)
HEADS, KEYS, VALUES = (4,), (4, 8), (4, 8)


@pytest.mark.parametrize(
    ("build", "inputs", "expected"),
    [
        (bert, {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}, [HEADS, KEYS, VALUES, (48,)]),
        (gpt2, TOKENS, [HEADS, KEYS, VALUES, (128,)]),
        (vit, PICTURE, [HEADS, KEYS, VALUES, (48,)]),
        (llama, TOKENS, [(2,), (2, 2), (2, 8), (48,)]),
    ],
)
def test_groups(build: Any, inputs: Any, expected: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    model = build()
    spec = find_permutations(model, inputs)
    assert not spec.notes
    pooled = [(32,)] if build is bert else []  # the layer between the class token and the classifier
    found = sorted(spec.shape(name) for name in spec.groups)
    assert found == sorted([STREAM, *pooled, *expected, *expected])
    assert spec.coverage > 0.99
    # Llama's norms convert their inputs to float32 at any precision; this check computes them in float64 too.
    assert max(check_permutations(model, inputs, spec).values()) < CLOSE
    if build is not llama:
        assert difference(model, inputs, spec) < CLOSE


def test_rotated_query_and_key_dimensions_are_fixed_with_a_reason() -> None:
    spec = find_permutations(llama(), TOKENS)
    reason = spec.explain("model.layers.0.self_attn.q_proj.weight", 0)
    assert "multiplied by or added to constants that differ along it" in reason
