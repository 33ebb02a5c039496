"""Explanations of a policy: where each value comes from, and what its plan would do."""
