"""llama.cpp's options: their names in the `--help` of llama-server, and the attributes of xllamacpp's CommonParams.

xllamacpp gives no access to llama.cpp's own parser of options. A test parses each of these options with that parser,
and compares what it sets.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .option_types import (
    MEBIBYTE,
    Adapters,
    Choice,
    Choices,
    File,
    FileContent,
    Integer,
    Number,
    Numbers,
    OptionType,
    ScaledAdapters,
    Switch,
    TemplateArguments,
    Text,
)


class Option(NamedTuple):
    """`names` has the name for documentation first. `negative` are names that mean the opposite of a switch."""

    names: tuple[str, ...]
    negative: tuple[str, ...]
    type: OptionType
    attributes: tuple[str, ...]
    sampling: str
    """The bit of `user_sampling_config` that keeps the model file's own default from replacing the value."""

    @property
    def name(self) -> str:
        return self.names[0]


def _option(names: str, type_: OptionType, attributes: str, negative: str = "", sampling: str = "") -> Option:
    return Option(tuple(names.split()), tuple(negative.split()), type_, tuple(attributes.split()), sampling)


COUNT, WHOLE, NUMBER = Integer(1), Integer(), Number()
ON, OFF = Switch(), Switch(inverted=True)
LAYERS = Integer(0, {"auto": -1, "all": -2})
CACHE_TYPE = Choice(
    {
        name: f"GGML_TYPE_{name.upper()}"
        for name in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
    },
    "ggml_type",
)
SPECULATION_TYPES = (
    *("none", "draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "draft-dspark"),
    *("ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache"),
)


def _choose(enumeration: str, prefix: str, names: str, **others: str) -> Choice:
    """Return a choice of an enumeration whose members are the names in capitals behind a prefix."""
    values = {name: prefix + name.upper().replace("-", "_") for name in names.split()}
    return Choice(values | {name: prefix + member for name, member in others.items()}, enumeration)


OPTIONS = (
    # GPU and memory
    _option("n-gpu-layers gpu-layers ngl", LAYERS, "n_gpu_layers"),
    _option(
        "split-mode sm",
        _choose("llama_split_mode", "LLAMA_SPLIT_MODE_", "none layer row tensor"),
        "split_mode",
    ),
    _option("tensor-split ts", Numbers(), "tensor_split"),
    _option("main-gpu mg", Integer(0), "main_gpu"),
    _option("override-tensor ot", Text(), "tensor_buft_overrides"),
    _option("moe-cache-mib", Integer(0, unit=MEBIBYTE), "moe_cache_size"),
    _option("fit", Choice({"on": True, "off": False}), "fit_params"),
    _option("fit-target fitt", Numbers(MEBIBYTE, repeats=True), "fit_params_target"),
    _option("fit-ctx fitc", COUNT, "fit_params_min_ctx"),
    _option("kv-offload kvo", OFF, "no_kv_offload", "no-kv-offload nkvo"),
    _option("op-offload", OFF, "no_op_offload", "no-op-offload"),
    _option("no-host", ON, "no_host"),
    _option("repack", OFF, "no_extra_bufts", "no-repack nr"),
    _option(
        "load-mode lm",
        Choice(
            {"auto": "LLAMA_LOAD_MODE_AUTO", "none": "LLAMA_LOAD_MODE_NONE", "mmap": "LLAMA_LOAD_MODE_MMAP"}
            | {"mlock": "LLAMA_LOAD_MODE_MLOCK", "mmap+mlock": "LLAMA_LOAD_MODE_MMAP_MLOCK"}
            | {"dio": "LLAMA_LOAD_MODE_DIRECT_IO"},
            "llama_load_mode",
        ),
        "load_mode",
    ),
    _option("lazy-mode lzm", _choose("llama_lazy_mode", "LLAMA_LAZY_MODE_", "on auto off"), "lazy_mode"),
    _option(
        "numa", _choose("ggml_numa_strategy", "GGML_NUMA_STRATEGY_", "distribute isolate numactl"), "numa"
    ),
    _option("check-tensors", ON, "check_tensors"),
    _option("warmup", ON, "warmup", "no-warmup"),
    # threads and batches
    _option("threads-batch tb", COUNT, "cpuparams_batch.n_threads"),
    _option("cpu-strict", Integer(0), "cpuparams.strict_cpu cpuparams_batch.strict_cpu"),
    _option("poll", Integer(0), "cpuparams.poll cpuparams_batch.poll"),
    _option("threads-http", COUNT, "n_threads_http"),
    _option("batch-size b", Integer(32), "n_batch n_ubatch"),
    _option("ubatch-size ub", Integer(32), "n_batch n_ubatch"),
    _option("cont-batching cb", ON, "cont_batching", "no-cont-batching nocb"),
    # attention, its cache and positions
    _option(
        "flash-attn fa",
        _choose("llama_flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_", "auto", on="ENABLED", off="DISABLED"),
        "flash_attn_type",
    ),
    _option("cache-type-k ctk", CACHE_TYPE, "cache_type_k"),
    _option("cache-type-v ctv", CACHE_TYPE, "cache_type_v"),
    _option("swa-full", ON, "swa_full"),
    _option("kv-unified kvu", ON, "kv_unified", "no-kv-unified no-kvu"),
    _option("kv-unified-per-slot", COUNT, "kv_unified_per_slot"),
    _option("cache-prompt", ON, "cache_prompt", "no-cache-prompt"),
    _option("cache-reuse", Integer(0), "n_cache_reuse"),
    _option("cache-ram cram", Integer(-1), "cache_ram_mib"),
    _option("cache-idle-slots", ON, "cache_idle_slots", "no-cache-idle-slots"),
    _option("ctx-checkpoints ctxcp swa-checkpoints", Integer(0), "n_ctx_checkpoints"),
    _option("checkpoint-min-step cms", Integer(0), "checkpoint_min_step"),
    _option("context-shift", ON, "ctx_shift", "no-context-shift"),
    _option("keep", Integer(-1), "n_keep"),
    _option("slot-prompt-similarity sps", NUMBER, "slot_prompt_similarity"),
    _option(
        "rope-scaling",
        _choose("llama_rope_scaling_type", "LLAMA_ROPE_SCALING_TYPE_", "none linear yarn"),
        "rope_scaling_type",
    ),
    _option("rope-scale", Number(positive=True, inverse=True), "rope_freq_scale"),
    _option("rope-freq-base", NUMBER, "rope_freq_base"),
    _option("rope-freq-scale", NUMBER, "rope_freq_scale"),
    _option("yarn-orig-ctx", Integer(0), "yarn_orig_ctx"),
    _option("yarn-ext-factor", NUMBER, "yarn_ext_factor"),
    _option("yarn-attn-factor", NUMBER, "yarn_attn_factor"),
    _option("yarn-beta-slow", NUMBER, "yarn_beta_slow"),
    _option("yarn-beta-fast", NUMBER, "yarn_beta_fast"),
    # adapters, chat template
    _option("lora", Adapters(), "lora_adapters"),
    _option("lora-scaled", ScaledAdapters(), "lora_adapters"),
    _option("lora-init-without-apply", ON, "lora_init_without_apply"),
    _option("jinja", ON, "use_jinja", "no-jinja"),
    _option("chat-template", Text(), "chat_template"),
    _option("chat-template-file", FileContent(), "chat_template"),
    _option("chat-template-kwargs", TemplateArguments(), "default_template_kwargs"),
    _option("skip-chat-parsing", ON, "force_pure_content_parser", "no-skip-chat-parsing"),
    _option(
        "reasoning-format",
        _choose("common_reasoning_format", "COMMON_REASONING_FORMAT_", "none auto deepseek deepseek-legacy"),
        "reasoning_format",
    ),
    _option("reasoning-budget", Integer(-1), "sampling.reasoning_budget_tokens"),
    _option("reasoning-budget-message", Text(), "sampling.reasoning_budget_message"),
    _option("special sp", ON, "special"),
    # defaults of requests
    _option("predict n n-predict", Integer(-1), "n_predict"),
    _option("seed s", Integer(0), "sampling.seed"),
    _option("ignore-eos", ON, "sampling.ignore_eos"),
    _option("temp temperature", Number(0.0), "sampling.temp", sampling="TEMP"),
    _option("top-k", WHOLE, "sampling.top_k", sampling="TOP_K"),
    _option("top-p", NUMBER, "sampling.top_p", sampling="TOP_P"),
    _option("min-p", NUMBER, "sampling.min_p", sampling="MIN_P"),
    _option("xtc-probability", NUMBER, "sampling.xtc_probability", sampling="XTC_PROBABILITY"),
    _option("xtc-threshold", NUMBER, "sampling.xtc_threshold", sampling="XTC_THRESHOLD"),
    _option("typical typical-p", NUMBER, "sampling.typ_p"),
    _option("repeat-last-n", Integer(0), "sampling.penalty_last_n", sampling="PENALTY_LAST_N"),
    _option("repeat-penalty", Number(positive=True), "sampling.penalty_repeat", sampling="PENALTY_REPEAT"),
    _option("presence-penalty", NUMBER, "sampling.penalty_present"),
    _option("frequency-penalty", NUMBER, "sampling.penalty_freq"),
    _option("dry-multiplier", NUMBER, "sampling.dry_multiplier"),
    _option("dry-base", Number(1.0), "sampling.dry_base"),
    _option("dry-allowed-length", WHOLE, "sampling.dry_allowed_length"),
    _option("dry-penalty-last-n", Integer(0), "sampling.dry_penalty_last_n"),
    _option("dynatemp-range", NUMBER, "sampling.dynatemp_range"),
    _option("dynatemp-exp", NUMBER, "sampling.dynatemp_exponent"),
    _option("mirostat", Integer(0), "sampling.mirostat", sampling="MIROSTAT"),
    _option("mirostat-lr", NUMBER, "sampling.mirostat_eta", sampling="MIROSTAT_ETA"),
    _option("mirostat-ent", NUMBER, "sampling.mirostat_tau", sampling="MIROSTAT_TAU"),
    # speculation
    _option(
        "spec-type",
        Choices(_choose("common_speculative_type", "COMMON_SPECULATIVE_TYPE_", " ".join(SPECULATION_TYPES))),
        "speculative.types",
    ),
    _option("spec-draft-model model-draft md", File(), "speculative.draft.mparams.path"),
    _option("spec-draft-n-max", COUNT, "speculative.draft.n_max"),
    _option("spec-draft-n-min", Integer(0), "speculative.draft.n_min"),
    _option("spec-draft-p-min draft-p-min", NUMBER, "speculative.draft.p_min"),
    _option("spec-draft-p-split draft-p-split", NUMBER, "speculative.draft.p_split"),
    _option(
        "spec-draft-backend-sampling",
        ON,
        "speculative.draft.backend_sampling",
        "no-spec-draft-backend-sampling",
    ),
    _option(
        "spec-draft-sampling",
        Choice({"greedy": False, "probabilistic": True}),
        "speculative.draft.probabilistic",
    ),
    _option(
        "spec-draft-ngl n-gpu-layers-draft gpu-layers-draft ngld", LAYERS, "speculative.draft.n_gpu_layers"
    ),
    _option("spec-draft-device device-draft devd", Text(), "speculative.draft.devices"),
    _option(
        "spec-draft-override-tensor override-tensor-draft otd",
        Text(),
        "speculative.draft.tensor_buft_overrides",
    ),
    _option("spec-draft-type-k cache-type-k-draft ctkd", CACHE_TYPE, "speculative.draft.cache_type_k"),
    _option("spec-draft-type-v cache-type-v-draft ctvd", CACHE_TYPE, "speculative.draft.cache_type_v"),
    _option("spec-draft-threads threads-draft td", COUNT, "speculative.draft.cpuparams.n_threads"),
    _option(
        "spec-draft-threads-batch threads-batch-draft tbd",
        COUNT,
        "speculative.draft.cpuparams_batch.n_threads",
    ),
    *(
        _option(f"spec-{kind}-{name}", COUNT, f"speculative.{kind}.{name}".replace("-", "_"))
        for kind in ("ngram-simple", "ngram-map-k", "ngram-map-k4v")
        for name in ("size-n", "size-m", "min-hits")
    ),
    _option("spec-ngram-mod-n-match", COUNT, "speculative.ngram_mod.n_match"),
    _option("spec-ngram-mod-n-max", COUNT, "speculative.ngram_mod.n_max"),
    _option("spec-ngram-mod-n-min", Integer(0), "speculative.ngram_mod.n_min"),
    _option("lookup-cache-static lcs", File(), "speculative.ngram_cache.lookup_cache_static"),
    _option("lookup-cache-dynamic lcd", File(), "speculative.ngram_cache.lookup_cache_dynamic"),
    # the log and the connection
    _option("verbosity lv log-verbosity", Integer(0), "verbosity"),
    _option("timeout to", COUNT, "timeout_read timeout_write"),
    _option("sse-ping-interval", Integer(-1), "sse_ping_interval"),
)

BY_NAME = {name: option for option in OPTIONS for name in (*option.names, *option.negative)}


def apply_options(params: Any, values: Mapping[str, Any], native: Any) -> None:
    """Set xllamacpp's CommonParams from parsed values by name. `native` is the module xllamacpp."""
    for option in OPTIONS:
        if option.name not in values:
            continue
        for attribute in option.attributes:
            *path, last = attribute.split(".")
            owner = params
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, last, option.type.convert(values[option.name], native, getattr(owner, last)))
        if option.sampling:
            bit = native.common_params_sampling_config[f"COMMON_PARAMS_SAMPLING_CONFIG_{option.sampling}"]
            params.sampling.user_sampling_config |= int(bit)
