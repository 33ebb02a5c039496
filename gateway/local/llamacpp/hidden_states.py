"""Scores a text with the local llama.cpp from the model's last hidden states, in one prefill.

llama.cpp's server returns the hidden states of a prompt, but no logits. The logits are the states times the
output matrix in the model's weights. The other scorer forces each token, which costs as much as generating
the text.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.local.models.gguf import list_parts, read_matrix
from gateway.upstreams.providers.llamacpp import score_by_forcing, tokenize_text
from gateway.upstreams.providers.server_kind import Post, Scorer, TokenizedText
from gateway.upstreams.transport.malformed import parsing

from .arguments import DEFAULT_BATCH

log = logging.getLogger(__name__)

LOGIT_ROWS = 128
"""Number of tokens whose logits are in memory at the same time."""
CHECK_TOKENS = 8
"""Number of tokens before the one by which the states are checked against forcing."""
MAX_DIFFERENCE_NATS = 0.5
"""Maximum difference in nats between the two scorers in that check. Eight-bit arithmetic causes about 0.1."""


class HiddenStateScorer:
    """Scores texts with one weights file. Falls back to `score_by_forcing` if the product of states and
    matrix does not match it, as for a model that transforms its logits."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._lock = threading.Lock()
        self._matrix: Any = None
        self._is_exact: bool | None = None

    async def tokenize_text(self, post: Post, text: str) -> TokenizedText:
        """Return the tokens of a text. The first call loads the output matrix, so that its load time is not
        measured as scoring time."""
        if self._matrix is None:
            await asyncio.to_thread(self._load_output_matrix)
        return await tokenize_text(post, text)

    async def logprobs(self, post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
        if self._is_exact is None and len(ids) > 1:
            self._is_exact = await self._matches_forcing(post, ids[: CHECK_TOKENS + 1])
        return await (self._score if self._is_exact else score_by_forcing)(post, ids, after)

    async def _matches_forcing(self, post: Post, ids: Sequence[int]) -> bool:
        (from_states,) = await self._score(post, ids, len(ids) - 1)
        (from_forcing,) = await score_by_forcing(post, ids, len(ids) - 1)
        if is_near := abs(from_states - from_forcing) <= MAX_DIFFERENCE_NATS:
            return is_near
        log.warning(
            "%s: its last hidden states tell %.2f nats, and it %.2f", self._weights, from_states, from_forcing
        )
        return is_near

    async def _score(self, post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
        answer = await post("embedding", {"content": list(ids), "embd_normalize": -1})
        return await asyncio.to_thread(self._compute_logprobs, answer, ids, after)

    def _compute_logprobs(self, answer: Any, ids: Sequence[int], after: int) -> Sequence[float]:
        import numpy as np

        with parsing("the states of a text"):
            states = np.array(answer[0]["embedding"][after - 1 : len(ids) - 1], np.float32)
        targets = np.array(ids[after:])
        output = self._load_output_matrix()
        logprobs: list[float] = []
        for start in range(0, len(targets), LOGIT_ROWS):
            logits = states[start : start + LOGIT_ROWS] @ output.T
            chosen = np.take_along_axis(logits, targets[start : start + LOGIT_ROWS, None], 1)[:, 0]
            peak = logits.max(1)
            logits -= peak[:, None]
            np.exp(logits, out=logits)
            logprobs += (chosen - peak - np.log(logits.sum(1))).tolist()
        return logprobs

    def _load_output_matrix(self) -> Any:
        """Return the output matrix, of shape (vocabulary, state size). Models with tied weights use the token
        embeddings."""
        with self._lock:
            if self._matrix is None:
                self._matrix = read_output_matrix(self._weights)
        return self._matrix


def read_output_matrix(weights: Path) -> Any:
    """Read the output matrix, or the token embeddings if the weights are tied, from the part that has it."""
    for name in ("output.weight", "token_embd.weight"):
        for part in list_parts(weights):
            with suppress(KeyError):
                return read_matrix(part, name)
    raise KeyError(f"{weights}: has neither an output matrix nor token embeddings")


def build_scorer(weights: Path, batch: int = DEFAULT_BATCH) -> Scorer:
    """Return a scorer for a server with this batch size, the maximum of tokens whose states it returns."""
    states = HiddenStateScorer(weights)
    return Scorer(states.tokenize_text, states.logprobs, batch)
