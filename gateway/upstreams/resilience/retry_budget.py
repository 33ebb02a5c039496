"""A budget of retries, so that a server which keeps failing is not asked several times for each request."""

MAX_BALANCE = 10


class RetryBudget:
    """The retries that one upstream has earned: one for each answered call, at most 10, which is what it begins with.

    If a call fails in spite of its retries, all are spent: until something is answered, each call is made once.
    Clients retry as well, and without a budget their attempts and ours multiply (Beyer et al., "Site Reliability
    Engineering", 2016, chapter 21).
    """

    def __init__(self) -> None:
        self.balance = MAX_BALANCE

    def record_answer(self) -> None:
        if self.balance < MAX_BALANCE:
            self.balance += 1

    def record_failed_retries(self) -> None:
        self.balance = 0

    def withdraw(self) -> bool:
        """Take one retry. Return whether there was one."""
        if self.balance == 0:
            return False
        self.balance -= 1
        return True
