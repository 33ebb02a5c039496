"""Each evaluator, evaluated: how well it tells good answers from others, with either model as the judge."""
