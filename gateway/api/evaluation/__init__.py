"""POST /v1/evaluate: answers judged by evaluators."""
