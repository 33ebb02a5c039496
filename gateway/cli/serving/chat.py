"""smallfirst chat: a conversation in the terminal, with route, confidence and cost of each answer."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import err, fail, out

if TYPE_CHECKING:  # imported where it is used, since it loads slower than the rest of the command line
    from openai import OpenAI
    from openai.types.chat import ChatCompletionMessageParam


def chat(
    url: Annotated[
        str, typer.Option(help="The gateway's address, with or without `/v1`.")
    ] = "http://127.0.0.1:8000",
    model: Annotated[
        str, typer.Option(help="A policy; or an upstream's model, if the gateway exposes them.")
    ] = "auto",
    temperature: Annotated[
        float | None, typer.Option(help="Sampling temperature; without it, each model's own.")
    ] = None,
    prompt: Annotated[str | None, typer.Argument(help="One question; without it, a conversation.")] = None,
) -> None:
    """Talk to a running gateway; shows route, confidence and cost under each answer."""
    import openai

    url = url.rstrip("/").removesuffix("/v1")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        _converse(client, url, model, temperature, prompt)


def _converse(client: "OpenAI", url: str, model: str, temperature: float | None, prompt: str | None) -> None:
    import openai

    messages: list[ChatCompletionMessageParam] = []
    while True:
        question = prompt or _read_question()
        if not question:
            return
        messages.append({"role": "user", "content": question})
        try:
            text = _stream_answer(client, model, temperature, messages)
        except openai.APIConnectionError:
            fail(f"no gateway answers at {url}; start one with `smallfirst serve`", 1)
        except openai.APIError as error:
            messages.pop()
            err.print(f"error: {error.message}", markup=False, style="red")
            if prompt:
                raise typer.Exit(1) from error
            continue
        messages.append({"role": "assistant", "content": text})
        if prompt:
            return


def _read_question() -> str:
    try:
        return input("you: ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _stream_answer(
    client: "OpenAI", model: str, temperature: float | None, messages: list["ChatCompletionMessageParam"]
) -> str:
    """Stream one answer to the terminal and return its text."""
    from openai import omit

    parts: list[str] = []
    figures: dict[str, Any] = {}
    with client.chat.completions.create(
        model=model,
        messages=messages,
        temperature=omit if temperature is None else temperature,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        for chunk in stream:
            for choice in chunk.choices:
                if choice.delta.content:
                    parts.append(choice.delta.content)
                    out.print(choice.delta.content, end="", markup=False)
            figures = (chunk.model_extra or {}).get("smallfirst") or figures
    out.print()
    if figures:  # none arrive if the server reports no usage
        err.print(format_summary(figures), markup=False, style="dim")
    return "".join(parts)


def format_summary(figures: dict[str, Any]) -> str:
    """Return one line with route, reason, confidence, cost and saving."""
    parts = [f"{figures.get('route')} ({figures.get('reason')})"]
    if (confidence := figures.get("confidence")) is not None:
        parts.append(f"confidence {confidence:.2f}")
    parts.append(f"cost ${figures.get('cost_usd') or 0:.6f}")
    if (saved := figures.get("saved_usd")) is not None:
        parts.append(f"saved ${saved:.6f} (estimate)")
    return "[" + " · ".join(parts) + "]"
