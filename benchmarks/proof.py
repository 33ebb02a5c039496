"""What the docs quote of the small model, measured anew: `python -m benchmarks.proof [--work FOLDER]`.

For each weight format the starter set is drafted, a calibrator is trained on its training split and measured on
its held-out split; then the pair. `--work` keeps the record sets, and takes those that are there already.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import openai

from benchmarks import pair, results
from gateway.cli.loopback_gateway import run_gateway
from gateway.cli.records.collect import collect_drafts
from gateway.local.weights.package_index import DEFAULT_WEIGHTS
from gateway.local.weights.resolution import find_default_weights
from gateway.settings import LocalEngine, Settings, load_settings
from gateway.telemetry.settings import RecordSettings
from gateway.wire.prompt_text import extract_recorded_features
from policies.tuning import calibrate, difficulty
from policies.tuning.calibrate import build_confidence_predictor
from policies.tuning.collection.graded_drafts import read_graded
from policies.tuning.difficulty import build_difficulty_predictor
from policies.tuning.report import measure_held_out
from policies.tuning.starter_set import load_items
from routers.confidence.calibration import LogprobSource, TrainingSet

FORMATS = ("Q4_1", "F16")
PROMPTS = 12
MODEL = LogprobSource(model=DEFAULT_WEIGHTS.name, engine="llamacpp")


def requantised(source: Path, target: Path) -> None:
    """The shipped weights with 16-bit matrices: the same values, other arithmetic."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.get_field("general.architecture").contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        if name == "general.file_type":
            writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, inner)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float32 if len(tensor.shape) == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def settings(weights: Path) -> Settings:
    engine = LocalEngine(model=str(weights), threads=1, slots=1)  # one at a time: no batch changes a text
    return Settings(local=engine, records=RecordSettings(content=True))  # the prompts are measured


async def speed(weights: Path) -> dict[str, float]:
    """Tokens per second of one stream, prompt and answer, as the engine times them: medians."""
    prompts, answers = [], []
    async with run_gateway(settings(weights)) as served:
        client = openai.AsyncOpenAI(base_url=served.url, api_key="none")
        for index in range(PROMPTS):
            question = f"Tell me about number {index} and the history of the sea in a few sentences. " * 4
            answer = await client.chat.completions.create(
                model=weights.stem,
                messages=[{"role": "user", "content": question}],
                max_tokens=48,
                temperature=0,
            )
            timings = (answer.model_extra or {})["timings"]
            prompts.append(timings["prompt_per_second"])
            answers.append(timings["predicted_per_second"])
        await client.close()
    return {
        "prompt_tokens_per_second": round(statistics.median(prompts), 1),
        "answer_tokens_per_second": round(statistics.median(answers), 1),
    }


def format_measured(name: str, weights: Path, folder: Path) -> dict[str, Any]:
    items = load_items()
    if not folder.exists():
        folder.mkdir(parents=True)
        asyncio.run(collect_drafts(settings(weights), folder, items, pair.MAX_TOKENS))
    drafts = read_graded(folder, extract_recorded_features)
    trained_on = TrainingSet(
        records=f"starter-{name}", sha256="", drafts=len(drafts), date=time.strftime("%Y-%m-%d")
    )
    report = measure_held_out(
        drafts, lambda some: build_confidence_predictor(calibrate.fit_calibrator(some, MODEL, trained_on))
    )
    by_prompt = measure_held_out(
        drafts, lambda some: build_difficulty_predictor(difficulty.fit_scorer(some, MODEL, trained_on))
    )
    right = statistics.mean(draft.grade.right for draft in drafts)
    levels = {item.id: item.level for item in items}
    by_level = {
        level: round(statistics.mean(d.grade.right for d in drafts if levels[d.grade.item] == level), 4)
        for level in ("easy", "medium", "hard")
    }
    return {
        "bytes": weights.stat().st_size,
        "drafts": len(drafts),
        "right": round(right, 4),
        "right_by_level": by_level,
        **report,
        "difficulty": by_prompt,
        **asyncio.run(speed(weights)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path)
    args = parser.parse_args()
    shipped = find_default_weights(load_settings().models_folder)
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        other = work / "smollm2-135m-instruct.F16.gguf"
        if not other.exists():
            requantised(shipped, other)
        files = dict(zip(FORMATS, (shipped, other), strict=True))
        found = {name: format_measured(name, path, work / name) for name, path in files.items()}
    print(results.write("small-model", found))
    pair.main()


if __name__ == "__main__":
    main()
