"""Checkpoints of three architectures with random weights, a few megabytes each, made by vLLM's own Python:
`python tiny_checkpoints.py TOKENIZER FOLDER`."""

import sys
from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

SMALL = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama(**common: int) -> LlamaForCausalLM:
    """Grouped-query attention: two heads share their keys and values."""
    return LlamaForCausalLM(LlamaConfig(**common, num_key_value_heads=2, head_dim=32))


def gemma(**common: int) -> Gemma3ForCausalLM:
    """One layer looks through a window, one at everything."""
    layers = ["sliding_attention", "full_attention"]
    config = Gemma3TextConfig(
        **common, num_key_value_heads=1, head_dim=32, sliding_window=64, layer_types=layers
    )
    return Gemma3ForCausalLM(config)


def mla(**common: int) -> DeepseekV2ForCausalLM:
    """Multi-head latent attention over experts. vLLM's kernel for CPU is compiled for latents of 512 + 64 only."""
    attention = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 32, "v_head_dim": 32}
    experts = {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
    }
    rest = {"q_lora_rank": None, "num_key_value_heads": 4, "first_k_dense_replace": 1, "n_group": 1}
    return DeepseekV2ForCausalLM(DeepseekV2Config(**common, **attention, **experts, **rest, topk_group=1))


def main(tokenizer: Path, folder: Path) -> None:
    words = AutoTokenizer.from_pretrained(tokenizer)
    ids = {
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.eos_token_id,
        "max_position_embeddings": 32768,
    }
    for make in (llama, gemma, mla):
        torch.manual_seed(0)
        make(**SMALL, **ids, vocab_size=len(words)).save_pretrained(folder / make.__name__)
        words.save_pretrained(folder / make.__name__)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
