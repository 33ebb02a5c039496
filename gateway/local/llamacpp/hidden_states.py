"""How the local llama.cpp tells a text's log-probabilities: from the model's last hidden states, in one prefill.

Its server gives the states of whatever it reads and the logits of nothing. The states times the model's output matrix,
which stands in its weights, are the logits. By forcing each token, as its other scorer does, a text costs as much as if
it were written.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gateway.upstreams.providers.kind import Post, Scorer, Spelled
from gateway.upstreams.providers.llamacpp import forced, spell
from gateway.upstreams.transport.garbage import parsing

from .gguf import matrix

log = logging.getLogger(__name__)

WINDOW = 512
"""Tokens that llama.cpp computes at once, and so the most whose states it gives: more of them would keep it longer from
all else that it does, and take more memory."""
ROWS = 128
"""Tokens whose logits are in memory at a time."""
PROOF = 8
"""Tokens by which it is seen whether the states are read aright."""
NEAR = 0.5
"""Nats by which the two ways of asking may differ there; eight-bit arithmetic makes a tenth."""


class States:
    """Of one file of weights. A model whose logits are more than a product, as `forced` shows, is asked by that."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._matrix: Any = None
        self._fits: bool | None = None

    async def spell(self, post: Post, text: str) -> Spelled:
        """The first text waits for the weights to be read, so that how long a text takes to score is not taken to be
        what that takes."""
        if self._matrix is None:
            await asyncio.to_thread(self._output)
        return await spell(post, text)

    async def logprobs(self, post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
        if self._fits is None and len(ids) > 1:
            self._fits = await self._proven(post, ids[: PROOF + 1])
        return await (self._read if self._fits else forced)(post, ids, after)

    async def _proven(self, post: Post, ids: Sequence[int]) -> bool:
        (read,) = await self._read(post, ids, len(ids) - 1)
        (told,) = await forced(post, ids, len(ids) - 1)
        if fits := abs(read - told) <= NEAR:
            return fits
        log.warning("%s: its last hidden states tell %.2f nats, and it %.2f", self._weights, read, told)
        return fits

    async def _read(self, post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
        answer = await post("embedding", {"content": list(ids), "embd_normalize": -1})
        return await asyncio.to_thread(self._logprobs, answer, ids, after)

    def _logprobs(self, answer: Any, ids: Sequence[int], after: int) -> Sequence[float]:
        import numpy as np

        with parsing("the states of a text"):
            states = np.array(answer[0]["embedding"][after - 1 : len(ids) - 1], np.float32)
        own = np.array(ids[after:])
        output = self._output()
        found: list[float] = []
        for start in range(0, len(own), ROWS):
            logits = states[start : start + ROWS] @ output.T
            chosen = np.take_along_axis(logits, own[start : start + ROWS, None], 1)[:, 0]
            most = logits.max(1)
            logits -= most[:, None]
            np.exp(logits, out=logits)
            found += (chosen - most - np.log(logits.sum(1))).tolist()
        return found

    def _output(self) -> Any:
        """The matrix from a state to a logit for each token of the vocabulary. One matrix may be both what tokens come
        from and what they become."""
        with self._lock:
            if self._matrix is None:
                self._matrix = matrix(self._weights, "output.weight", "token_embd.weight")
        return self._matrix


def scorer(weights: Path) -> Scorer:
    found = States(weights)
    return Scorer(found.spell, found.logprobs, WINDOW)
