"""An exported set -> a LoRA adapter as vLLM loads it, trained by vLLM's own Python with PEFT beside it:
`python benchmarks/vllm/lora.py MODEL SET OUT --steps 60`.

SET is the folder of `smallfirst export`; OUT gets `adapter_config.json` and `adapter_model.safetensors`. Only the last
message of an example is learned. Examples that the model's chat template has no words for (tools, in many a template)
are left out. The losses before and after go to standard output as JSON.
"""

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

IGNORED = -100
Encoded = tuple[list[int], list[int]]
"""Token ids, and those of them that are learned."""


def encoded(tokenizer: Any, path: Path, longest: int) -> list[Encoded]:
    found, without = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        messages = json.loads(line)["messages"]
        try:
            prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
            whole = tokenizer.apply_chat_template(messages, tokenize=False)
        except Exception:  # whatever a template raises
            without += 1
            continue
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        begun = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if not whole.startswith(prompt) or len(ids) > longest:
            without += 1
            continue
        found.append((ids, [IGNORED] * begun + ids[begun:]))
    print(f"{path.name}: {len(found)} examples, {without} left out", file=sys.stderr)
    return found


def batch(examples: list[Encoded], padding: int) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids, _ in examples)
    return {
        "input_ids": torch.tensor([ids + [padding] * (width - len(ids)) for ids, _ in examples]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in examples]),
        "labels": torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in examples]),
    }


def loss(model: Any, examples: list[Encoded], padding: int) -> float | None:
    """Nats a token, over all."""
    total, count = 0.0, 0
    with torch.no_grad():
        for at in range(0, len(examples), 8):
            given = batch(examples[at : at + 8], padding)
            learned = int((given["labels"][:, 1:] != IGNORED).sum())
            total += float(model(**given).loss) * learned
            count += learned
    return total / count if count else None


def main() -> None:
    asked = argparse.ArgumentParser()
    for name in ("model", "set", "out"):
        asked.add_argument(name, type=Path)
    for name, value in (("steps", 60), ("rank", 4), ("batch", 4), ("longest", 1024), ("threads", 0)):
        asked.add_argument(f"--{name}", type=int, default=value)
    asked.add_argument("--rate", type=float, default=1e-3)
    given = asked.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    train = encoded(tokenizer, given.set / "train.jsonl", given.longest)
    validation = encoded(tokenizer, given.set / "validation.jsonl", given.longest)
    padding = tokenizer.pad_token_id or 0
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
    lora = LoraConfig(
        r=given.rank, lora_alpha=2 * given.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora)
    before = {"train": loss(model, train, padding), "validation": loss(model, validation, padding)}
    weights = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=given.rate)
    drawn = random.Random(0)
    model.train()
    for step in range(given.steps):
        found = model(**batch(drawn.sample(train, min(given.batch, len(train))), padding)).loss
        found.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1} of {given.steps}: {float(found):.3f}", file=sys.stderr)
    model.eval()
    after = {"train": loss(model, train, padding), "validation": loss(model, validation, padding)}
    model.save_pretrained(given.out)
    trained = sum(one.numel() for one in weights)
    print(
        json.dumps(
            {"before": before, "after": after, "steps": given.steps, "rank": given.rank, "weights": trained}
        )
    )


if __name__ == "__main__":
    main()
