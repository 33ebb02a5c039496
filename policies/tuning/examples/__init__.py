"""Training sets from records: their examples, which of them are worth training on, and no two alike."""
