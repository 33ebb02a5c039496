"""Judgements of answers, passages and requests by a model, as plan fragments."""
