"""Estimates a server's prefill and scoring time per token from its own calls."""

DECAY = 0.98
"""Factor by which each call reduces the weight of all earlier calls."""
PRIOR = (0.3, 0.1, 2.0)
"""Prior coefficients in seconds: fixed cost of a call, 1000 prompt tokens, 100 completion tokens."""

MIN_MEASURED_PROMPTS = 0.25
"""Sum of the squares of all prompts' lengths, in 1000 tokens, from which the fit is the server's and not the prior's:
one prompt of 500 tokens."""

Row = tuple[float, float, float]


class LatencyModel:
    """Fits the seconds of a call by discounted least squares around a prior, and keeps a running mean of the
    seconds per scored token."""

    def __init__(self) -> None:
        self._products = [[float(row == column) for column in range(3)] for row in range(3)]
        self._sums = list(PRIOR)
        self._measured_prompts = 0.0
        self.scoring_s_per_token: float | None = None
        """Seconds per token of scoring a text; None before the first measurement."""

    def record_call(self, prompt_tokens: int, completion_tokens: int, seconds: float) -> None:
        """Add the token counts and the duration of a completed call."""
        x = (1.0, prompt_tokens / 1000.0, completion_tokens / 100.0)
        self._measured_prompts = DECAY * self._measured_prompts + x[1] * x[1]
        for row in range(3):
            self._sums[row] = DECAY * self._sums[row] + x[row] * seconds
            for column in range(3):
                self._products[row][column] = DECAY * self._products[row][column] + x[row] * x[column]

    def record_scoring(self, tokens: int, seconds: float) -> None:
        """Add the number of scored tokens and the duration."""
        if tokens > 0:
            rate = seconds / tokens
            self.scoring_s_per_token = (
                rate if self.scoring_s_per_token is None else (self.scoring_s_per_token + rate) / 2.0
            )

    @property
    def has_measured_prefill(self) -> bool:
        """Whether the server has read enough for `prefill_s_per_token` to be its own."""
        return self._measured_prompts >= MIN_MEASURED_PROMPTS

    @property
    def prefill_s_per_token(self) -> float:
        """Seconds per prompt token, by Cramer's rule on the normal equations."""
        row_a, row_b, row_c = self._products
        determinant = _compute_determinant(row_a, row_b, row_c)
        column = [(row[0], total, row[2]) for row, total in zip(self._products, self._sums, strict=True)]
        return (
            max(0.0, _compute_determinant(*column) / determinant) / 1000.0
            if determinant
            else PRIOR[1] / 1000.0
        )


def _compute_determinant(a: "list[float] | Row", b: "list[float] | Row", c: "list[float] | Row") -> float:
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
