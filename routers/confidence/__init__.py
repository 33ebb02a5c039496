"""Token log-probabilities -> signals -> a calibrated P(the draft is good enough)."""
