"""Options of llama.cpp that `local.arguments` refuses, each with the way to go instead."""

BY_GATEWAY = "the gateway sets it"
MEDIA = "images and audio are not offered by the local engine"
PER_REQUEST = "it belongs in a request"
UNSETTABLE = "it cannot be set through xllamacpp"

_REASONS = {
    "use local.model": "model m model-url mu docker-repo dr hf-repo hf hfr hf-file hff hf-token hft alias a"
    " embd-gemma-default fim-qwen-1.5b-default fim-qwen-3b-default fim-qwen-7b-default fim-qwen-7b-spec"
    " fim-qwen-14b-spec fim-qwen-30b-default gpt-oss-20b-default gpt-oss-120b-default vision-gemma-4b-default"
    " vision-gemma-12b-default",
    "use local.context": "ctx-size c",
    "use local.slots": "parallel np",
    "use local.threads": "threads t",
    "use local.embeddings": "embedding embeddings pooling embd-normalize rerank reranking",
    "use local.speculative": "spec-default",
    "use spec-draft-model with a file": "spec-draft-hf hfd hfrd hf-repo-draft",
    BY_GATEWAY: "host port reuse-port path api-key api-key-file api-prefix ssl-key-file ssl-cert-file metrics props"
    " slots no-slots cors-origins cors-methods cors-headers cors-credentials no-cors-credentials ui webui no-ui"
    " no-webui ui-config webui-config ui-config-file webui-config-file ui-mcp-proxy webui-mcp-proxy no-ui-mcp-proxy"
    " no-webui-mcp-proxy tags models-dir models-preset models-max models-autoload no-models-autoload"
    " prefill-assistant no-prefill-assistant offline",
    "the gateway offers no tools of llama.cpp's": "tools tools-runtime mcp-servers-config mcp-servers-json agent ag"
    " no-agent no-ag",
    "the gateway asks the engine for a token every ten seconds, so it never idles": "sleep-idle-seconds",
    "a slot's cache is not kept on disk": "slot-save-path",
    MEDIA: "mmproj mm mmproj-url mmu mmproj-auto no-mmproj no-mmproj-auto mmproj-offload no-mmproj-offload"
    " mmproj-device mmdev image-min-tokens image-max-tokens mtmd-batch-max-tokens video-fps video-timestamp-interval"
    " video-ffmpeg-dir media-path",
    PER_REQUEST: "logit-bias l grammar grammar-file json-schema j json-schema-file jf reverse-prompt r samplers"
    " sampler-seq sampling-seq top-nsigma top-n-sigma dry-sequence-breaker adaptive-target adaptive-decay"
    " backend-sampling bs spm-infill",
    "use chat-template-kwargs: {enable_thinking: false}": "reasoning rea",
    "use chat-template-kwargs: {reasoning_effort: low}": "reasoning-effort",
    "use chat-template-kwargs: {preserve_reasoning: false}": "reasoning-preserve no-reasoning-preserve",
    f"{UNSETTABLE}; use main-gpu with split-mode: none, or a variable such as CUDA_VISIBLE_DEVICES": "device dev",
    f"{UNSETTABLE}; use override-tensor": "cpu-moe cmoe n-cpu-moe ncmoe n-cpu-ffn ncffn",
    f"{UNSETTABLE}; use spec-draft-override-tensor": "spec-draft-cpu-moe cpu-moe-draft cmoed spec-draft-n-cpu-moe"
    " spec-draft-ncmoe n-cpu-moe-draft ncmoed",
    UNSETTABLE: "cpu-mask C cpu-range Cr cpu-mask-batch Cb cpu-range-batch Crb cpu-strict-batch poll-batch prio"
    " prio-batch override-kv control-vector control-vector-scaled control-vector-layer-range rpc spec-draft-cpu-mask Cd"
    " cpu-mask-draft spec-draft-cpu-range Crd cpu-range-draft spec-draft-cpu-strict cpu-strict-draft spec-draft-prio"
    " prio-draft spec-draft-poll poll-draft spec-draft-cpu-mask-batch Cbd cpu-mask-batch-draft"
    " spec-draft-cpu-strict-batch cpu-strict-batch-draft spec-draft-prio-batch prio-batch-draft spec-draft-poll-batch"
    " poll-batch-draft perf no-perf escape e no-escape log-disable log-file log-jsonl no-log-jsonl log-colors"
    " log-prefix no-log-prefix log-timestamps no-log-timestamps log-prompts-dir",
    "it is for llama.cpp's own benchmarks": "spec-synth-len spec-synth-rates",
    "use verbosity": "verbose v log-verbose",
    "llama.cpp prints something and ends": "help h usage version cache-list cl completion-bash list-devices",
    "llama.cpp has replaced it; use load-mode: none, mmap, mlock, mmap+mlock or dio": "mmap no-mmap mlock direct-io"
    " dio no-direct-io ndio",
    "llama.cpp has replaced it; use spec-draft-n-max or spec-ngram-mod-n-max": "draft draft-n draft-max",
    "llama.cpp has replaced it; use spec-draft-n-min or spec-ngram-mod-n-min": "draft-min draft-n-min",
    "llama.cpp has replaced it; use spec-ngram-simple-size-n, or that of another type": "spec-ngram-size-n",
    "llama.cpp has replaced it; use spec-ngram-simple-size-m, or that of another type": "spec-ngram-size-m",
    "llama.cpp has replaced it; use spec-ngram-simple-min-hits, or that of another type": "spec-ngram-min-hits",
    "llama.cpp has dropped it": "defrag-thold dt",
}

REFUSED = {name: reason for reason, names in _REASONS.items() for name in names.split()}
