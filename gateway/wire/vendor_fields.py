"""Request fields that OpenAI does not have, grouped by the engines that support them.

vLLM's fields are those of the request models of vLLM 0.32 (`vllm.entrypoints.openai`), llama.cpp's those of
its server's README. Unknown fields pass through to every upstream.
"""

SHARED = frozenset(
    {
        "add_generation_prompt",
        "chat_template_kwargs",
        "continue_final_message",
        "ignore_eos",
        "min_p",
        "top_k",
    }
)
"""Fields that both vLLM and llama.cpp support."""

VLLM = frozenset(
    {
        "add_special_tokens",
        "allowed_token_ids",
        "bad_words",
        "chat_template",
        "documents",
        "ec_transfer_params",
        "include_reasoning",
        "include_stop_str_in_output",
        "kv_transfer_params",
        "length_penalty",
        "logprob_token_ids",
        "media_io_kwargs",
        "min_tokens",
        "mm_processor_kwargs",
        "prompt_embeds",
        "prompt_logprobs",
        "repetition_detection",
        "repetition_penalty",
        "return_tokens_as_token_ids",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop_token_ids",
        "thinking_token_budget",
        "truncate_prompt_tokens",
        "truncation_side",
        "use_beam_search",
        "vllm_xargs",
        "watermarking",
    }
)
"""Fields that only vLLM supports and that change the answer."""

LLAMACPP = frozenset(
    {
        "dry_allowed_length",
        "dry_base",
        "dry_multiplier",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "dynatemp_exponent",
        "dynatemp_range",
        "grammar",
        "json_schema",
        "lora",
        "mirostat",
        "mirostat_eta",
        "mirostat_tau",
        "n_indent",
        "repeat_last_n",
        "repeat_penalty",
        "samplers",
        "t_max_predict_ms",
        "top_n_sigma",
        "typical_p",
        "xtc_probability",
        "xtc_threshold",
    }
)
"""Fields that only llama.cpp supports and that change the answer."""

OPENAI = frozenset({"functions", "web_search_options"})
"""Fields that OpenAI supports and both vLLM and llama.cpp ignore."""

ANSWER_CHANGING = SHARED | VLLM | LLAMACPP | OPENAI
"""Fields that change the answer and that some servers ignore."""

ANSWER_NEUTRAL = frozenset(
    {
        "cache_salt",
        "priority",
        "request_id",
        "return_prompt_text",
        "return_token_ids",
        "session_id",
        "stream_interval",
    }
)
"""vLLM's fields that do not change the answer. They control scheduling, caching, chunking and additional
output."""

TOKEN_ID_FIELDS = frozenset({"allowed_token_ids", "logit_bias", "logprob_token_ids", "stop_token_ids"})
"""Fields that hold token ids, which depend on the tokenizer."""

UNWATCHABLE = frozenset(
    {
        "ec_transfer_params",
        "kv_transfer_params",
        "logprob_token_ids",
        "prompt_logprobs",
        "return_tokens_as_token_ids",
        "use_beam_search",
    }
)
"""vLLM's fields that are rejected, or whose answer loses its meaning, if a draft is streamed under a
watch."""

REMOVED_FROM_VLLM = {
    "guided_json": '`structured_outputs: {"json": …}` or `response_format`',
    "guided_regex": '`structured_outputs: {"regex": …}`',
    "guided_choice": '`structured_outputs: {"choice": […]}`',
    "guided_grammar": '`structured_outputs: {"grammar": …}`',
    "guided_whitespace_pattern": '`structured_outputs: {"json": …, "whitespace_pattern": …}`',
    "guided_decoding_backend": "nothing: the backend is chosen where vLLM is started "
    "(`--structured-outputs-config`)",
    "logits_processors": "`vllm_xargs`, for a processor that vLLM was started with (`--logits-processors`)",
}
"""Fields that vLLM has removed and now ignores, each with its replacement."""


def present_fields(body: dict[str, object], names: frozenset[str]) -> frozenset[str]:
    """Return the fields of `names` that a body sets to something other than null."""
    if names.isdisjoint(body):
        return NO_FIELDS
    return frozenset(name for name in names.intersection(body) if body[name] is not None)


NO_FIELDS: frozenset[str] = frozenset()
