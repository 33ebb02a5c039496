"""A GGUF file's weights as folders that vLLM serves, run by vLLM's own Python (torch, transformers):
`python benchmarks/vllm/convert.py WEIGHTS.gguf FOLDER`.

Writes FOLDER/smollm2, and FOLDER/smollm2-29 of its first 29 layers: a cheaper draft of the same words, which is
often wrong. Values are those of the file, in 32 bits.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

LAYERS = {"smollm2": 30, "smollm2-29": 29}


def main(weights: Path, folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    read = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    config = read.config.to_dict()
    config.pop("quantization_config", None)
    values = read.state_dict()
    for name, layers in LAYERS.items():
        model = LlamaForCausalLM(LlamaConfig(**config | {"num_hidden_layers": layers})).to(torch.float32)
        model.load_state_dict({key: values[key] for key in model.state_dict()})
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
