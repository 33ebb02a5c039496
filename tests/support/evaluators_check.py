"""What a real model's judgements are checked for: that they are there, and within their bounds."""

from typing import Any

from support.gateways import Gateway

BODY = {
    "input": "What is the capital of France? Answer with one word.",
    "output": "Paris",
    "context": "Paris is the capital of France.",
    "evaluators": [
        "verify",
        {"kind": "rate", "rubric": "groundedness"},
        {"kind": "agree", "samples": 2},
        {"kind": "agree", "samples": 2, "compare": "entailment"},
        "structure",
    ],
}


async def judged_by_a_real_model(gateway: Gateway) -> list[dict[str, Any]]:
    """The results, all of which a model gave."""
    async with gateway.http.post(f"{gateway.url}/evaluate", json=BODY) as response:
        found = await response.json()
        assert response.status == 200, found
    (row,) = found["data"]
    results: list[dict[str, Any]] = row["results"]
    names = ["verify", "rate:groundedness", "agree:text", "agree:entailment", "structure"]
    assert [result["evaluator"] for result in results] == names
    for result in results:
        assert "error" not in result
        assert 0.0 <= result["p"] <= 1.0
    assert all(0.0 < result["mass"] <= 1.0 for result in results[:4])
    assert 1.0 <= results[1]["score"] <= 5.0
    assert row["usage"]["completion_tokens"] >= 2 + 1 + 2 + 2 + 2
    exchange = await gateway.exchange(row["id"])
    assert [call["outcome"] for call in exchange["calls"]] == ["ok"] * 7
    return results
