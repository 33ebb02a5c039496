"""Performs the asks that write no answer: judgements and scores."""
