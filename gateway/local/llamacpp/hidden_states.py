"""Scores a text with the local llama.cpp from the model's last hidden states, in one prefill.

llama.cpp's server returns the hidden states of a prompt, but no logits. The logits are the states times the
output matrix in the model's weights. The other scorer forces each token, which costs as much as generating
the text.
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
"""Batch size of llama.cpp in tokens, and so the maximum whose states it returns. A larger batch would delay
other requests longer and take more memory."""
ROWS = 128
"""Number of tokens whose logits are in memory at the same time."""
PROOF = 8
"""Number of tokens before the one by which the states are checked against forcing."""
NEAR = 0.5
"""Maximum difference in nats between the two scorers in that check. Eight-bit arithmetic causes about 0.1."""


class States:
    """Scores texts with one weights file. Falls back to `score_by_forcing` if the product of states and
    matrix does not match it, as for a model that transforms its logits."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._matrix: Any = None
        self._fits: bool | None = None

    async def spell(self, post: Post, text: str) -> Spelled:
        """Return the tokens of a text. The first call loads the output matrix, so that its load time is not
        measured as scoring time."""
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
        """Return the output matrix, of shape (vocabulary, state size). Models with tied weights use the token
        embeddings."""
        with self._lock:
            if self._matrix is None:
                self._matrix = matrix(self._weights, "output.weight", "token_embd.weight")
        return self._matrix


def scorer(weights: Path) -> Scorer:
    found = States(weights)
    return Scorer(found.spell, found.logprobs, WINDOW)
