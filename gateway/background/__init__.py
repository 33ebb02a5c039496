"""Work beside requests: evaluations and shadows, and their hourly budgets."""
