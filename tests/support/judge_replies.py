"""What a scripted server says when it is asked to judge by one token, or to write samples."""

from math import log

from support.scripted_server import Reply


def said(**p: float) -> Reply:
    """Labels' probabilities, each after an underscore where it is no name: `said(_5=0.8, yes=0.1)`."""
    top = [{"token": f" {name.removeprefix('_')}", "logprob": log(value)} for name, value in p.items()]
    first = top[0] | {"top_logprobs": top}
    choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "x"}}
    return Reply("x", extra={"choices": [choice | {"logprobs": {"content": [first]}}]})


def samples(*texts: str) -> Reply:
    choices = [
        {"index": index, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for index, text in enumerate(texts)
    ]
    return Reply("x", extra={"choices": choices})
