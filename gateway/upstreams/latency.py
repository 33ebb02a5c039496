"""How long a server takes for what it reads, learned from its own calls."""

FORGETTING = 0.98
"""What one more call leaves of the weight of those before."""
USUAL = (0.3, 0.1, 2.0)
"""Seconds of a call beside its tokens, of a thousand that are read, of a hundred that are written: what is taken to
hold until calls say otherwise."""

Row = tuple[float, float, float]


class Pace:
    """Seconds a call by least squares, from what is usual; seconds a token that is scored, by a running mean."""

    def __init__(self) -> None:
        self._products = [[float(row == column) for column in range(3)] for row in range(3)]
        self._sums = list(USUAL)
        self.scored: float | None = None
        """Seconds a token of a text whose log-probabilities are told; None where none has been yet."""

    def answered(self, read: int, written: int, seconds: float) -> None:
        """A call that came to its end."""
        x = (1.0, read / 1000.0, written / 100.0)
        for row in range(3):
            self._sums[row] = FORGETTING * self._sums[row] + x[row] * seconds
            for column in range(3):
                self._products[row][column] = FORGETTING * self._products[row][column] + x[row] * x[column]

    def read(self, tokens: int, seconds: float) -> None:
        """Tokens that it has scored."""
        if tokens > 0:
            rate = seconds / tokens
            self.scored = rate if self.scored is None else (self.scored + rate) / 2.0

    @property
    def prefill(self) -> float:
        """Seconds a token of a prompt."""
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
