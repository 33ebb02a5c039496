"""Estimates a server's prefill and scoring time per token from its own calls."""

FORGETTING = 0.98
"""Factor by which each call reduces the weight of all earlier calls."""
USUAL = (0.3, 0.1, 2.0)
"""Prior coefficients in seconds: fixed cost of a call, 1000 prompt tokens, 100 completion tokens."""

Row = tuple[float, float, float]


class Pace:
    """Fits the seconds of a call by discounted least squares around a prior, and keeps a running mean of the
    seconds per scored token."""

    def __init__(self) -> None:
        self._products = [[float(row == column) for column in range(3)] for row in range(3)]
        self._sums = list(USUAL)
        self.scored: float | None = None
        """Seconds per token of scoring a text; None before the first measurement."""

    def answered(self, read: int, written: int, seconds: float) -> None:
        """Add the token counts and the duration of a completed call."""
        x = (1.0, read / 1000.0, written / 100.0)
        for row in range(3):
            self._sums[row] = FORGETTING * self._sums[row] + x[row] * seconds
            for column in range(3):
                self._products[row][column] = FORGETTING * self._products[row][column] + x[row] * x[column]

    def read(self, tokens: int, seconds: float) -> None:
        """Add the number of scored tokens and the duration."""
        if tokens > 0:
            rate = seconds / tokens
            self.scored = rate if self.scored is None else (self.scored + rate) / 2.0

    @property
    def prefill(self) -> float:
        """Seconds per prompt token, by Cramer's rule on the normal equations."""
        one, two, three = self._products
        whole = _determinant(one, two, three)
        column = [(row[0], total, row[2]) for row, total in zip(self._products, self._sums, strict=True)]
        return max(0.0, _determinant(*column) / whole) / 1000.0 if whole else USUAL[1] / 1000.0


def _determinant(a: "list[float] | Row", b: "list[float] | Row", c: "list[float] | Row") -> float:
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1])
        - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
    )
