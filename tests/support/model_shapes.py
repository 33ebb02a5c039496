"""The shapes of published models, as their `config.json` and their GGUF files have them."""

from typing import Any

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256, "max_position_embeddings": 131072,
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192},
    "tie_word_embeddings": False,
}  # fmt: skip
PHI_3_MINI: dict[str, Any] = {
    "model_type": "phi3", "num_hidden_layers": 32, "hidden_size": 3072, "num_attention_heads": 32,
    "num_key_value_heads": 32, "intermediate_size": 8192, "vocab_size": 32064, "max_position_embeddings": 4096,
    "sliding_window": 2047,
}  # fmt: skip
GEMMA_3_1B: dict[str, Any] = {
    "model_type": "gemma3_text", "num_hidden_layers": 26, "hidden_size": 1152, "num_attention_heads": 4,
    "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 6912, "vocab_size": 262144,
    "max_position_embeddings": 32768, "sliding_window": 512, "sliding_window_pattern": 6,
}  # fmt: skip
DEEPSEEK_V2_LITE: dict[str, Any] = {
    "model_type": "deepseek_v2", "num_hidden_layers": 27, "hidden_size": 2048, "num_attention_heads": 16,
    "num_key_value_heads": 16, "intermediate_size": 10944, "vocab_size": 102400, "max_position_embeddings": 163840,
    "kv_lora_rank": 512, "qk_rope_head_dim": 64,
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
}  # fmt: skip
MINICPM_3_4B: dict[str, Any] = {
    "model_type": "minicpm3", "num_hidden_layers": 62, "hidden_size": 2560, "num_attention_heads": 40,
    "num_key_value_heads": 40, "intermediate_size": 6400, "vocab_size": 73448, "max_position_embeddings": 32768,
    "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32,
}  # fmt: skip
LFM2_1B: dict[str, Any] = {
    "model_type": "lfm2", "num_hidden_layers": 16, "hidden_size": 2048, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 12288, "vocab_size": 65536, "max_position_embeddings": 128000,
    "conv_L_cache": 3,
    "layer_types": ["full_attention" if layer in (2, 5, 8, 10, 12, 14) else "conv" for layer in range(16)],
}  # fmt: skip
QWEN_3_5_LIKE: dict[str, Any] = {
    "model_type": "qwen3_5",
    "vision_config": {"hidden_size": 768},
    "text_config": {
        "num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 2,
        "head_dim": 256, "intermediate_size": 3584, "vocab_size": 248320, "max_position_embeddings": 262144,
        "full_attention_interval": 4, "linear_num_value_heads": 16, "linear_num_key_heads": 16,
        "linear_value_head_dim": 128, "linear_key_head_dim": 128, "linear_conv_kernel_dim": 4,
    },
}  # fmt: skip
MAMBA_130M: dict[str, Any] = {
    "model_type": "mamba", "num_hidden_layers": 24, "hidden_size": 768, "vocab_size": 50280,
    "expand": 2, "state_size": 16, "conv_kernel": 4,
}  # fmt: skip
OPENELM_270M: dict[str, Any] = {
    "model_type": "openelm", "num_transformer_layers": 16, "model_dim": 1280, "head_dim": 64, "vocab_size": 32000,
    "num_query_heads": [12, 12, 12, 12, 12, 16, 16, 16, 16, 16, 16, 16, 20, 20, 20, 20],
    "num_kv_heads": [3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5], "max_context_length": 2048,
}  # fmt: skip
FALCON_7B: dict[str, Any] = {
    "model_type": "falcon", "num_hidden_layers": 32, "hidden_size": 4544, "num_attention_heads": 71,
    "multi_query": True, "vocab_size": 65024, "max_position_embeddings": 2048,
}  # fmt: skip

GGUF_GEMMA_3_1B: dict[str, Any] = {
    "general.architecture": "gemma3", "gemma3.block_count": 26, "gemma3.embedding_length": 1152,
    "gemma3.attention.head_count": 4, "gemma3.attention.head_count_kv": 1, "gemma3.attention.key_length": 256,
    "gemma3.attention.value_length": 256, "gemma3.attention.sliding_window": 512, "gemma3.context_length": 32768,
    "gemma3.feed_forward_length": 6912, "gemma3.vocab_size": 262144,
}  # fmt: skip
GGUF_DEEPSEEK_V2_LITE: dict[str, Any] = {
    "general.architecture": "deepseek2", "deepseek2.block_count": 27, "deepseek2.embedding_length": 2048,
    "deepseek2.attention.head_count": 16, "deepseek2.attention.head_count_kv": 1,
    "deepseek2.attention.key_length": 576, "deepseek2.attention.value_length": 512,
    "deepseek2.attention.key_length_mla": 192, "deepseek2.attention.value_length_mla": 128,
    "deepseek2.attention.kv_lora_rank": 512, "deepseek2.rope.dimension_count": 64,
    "deepseek2.context_length": 163840, "deepseek2.feed_forward_length": 10944, "deepseek2.vocab_size": 102400,
}  # fmt: skip
GGUF_LFM2_1B: dict[str, Any] = {
    "general.architecture": "lfm2", "lfm2.block_count": 16, "lfm2.embedding_length": 2048,
    "lfm2.attention.head_count": 32, "lfm2.shortconv.l_cache": 3, "lfm2.context_length": 128000,
    "lfm2.attention.head_count_kv": [8 if layer in (2, 5, 8, 10, 12, 14) else 0 for layer in range(16)],
    "lfm2.feed_forward_length": 8192, "lfm2.vocab_size": 65536,
}  # fmt: skip
GGUF_QWEN_3_5_LIKE: dict[str, Any] = {
    "general.architecture": "qwen35", "qwen35.block_count": 24, "qwen35.embedding_length": 1024,
    "qwen35.attention.head_count": 8, "qwen35.attention.head_count_kv": 2, "qwen35.attention.key_length": 256,
    "qwen35.attention.value_length": 256, "qwen35.full_attention_interval": 4, "qwen35.context_length": 262144,
    "qwen35.ssm.conv_kernel": 4, "qwen35.ssm.inner_size": 2048, "qwen35.ssm.state_size": 128,
    "qwen35.ssm.group_count": 16, "qwen35.feed_forward_length": 3584, "qwen35.vocab_size": 248320,
}  # fmt: skip
GGUF_MAMBA_130M: dict[str, Any] = {
    "general.architecture": "mamba", "mamba.block_count": 24, "mamba.embedding_length": 768,
    "mamba.attention.head_count": 0, "mamba.ssm.conv_kernel": 4, "mamba.ssm.inner_size": 1536,
    "mamba.ssm.state_size": 16, "mamba.context_length": 1048576, "mamba.vocab_size": 50280,
}  # fmt: skip
