"""Detection of English refusals by how a text begins."""

import re

_UNABLE = r"(?:i(?:'m| am) (?:unable|not able) to|i (?:can't|cannot|can not|won't|will not))"


_SORRY = (
    r"(?:(?:i'm|i am) (?:so |very |really |truly )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately)"
    r"(?: (?:for|about) [^.,;!?]{1,40})?[.,;!]? ?(?:but |however,? )?"
)


_NO_BUT = r"(?!.*\b(?:but|however|nevertheless|nonetheless|that said)\b)"


_TASK = (
    r"(?:help|assist)(?: you)?(?: with\b| in\b|[.,;!]|$)"
    r"|(?:comply|do that)(?:[.,;!]|$)|comply with\b"
    r"|(?:answer|complete|fulfil|fulfill|process|respond to) (?:that|this|your|the|such) (?:\w+ )?"
    r"(?:question|query|prompt|request)\b"
    r"|(?:create|generate|produce|write) (?:\w+ ){0,2}content\b"
    rf"|provide (?:\w+ ){{0,3}}(?:advice|assistance|guidance|information|instructions)\b{_NO_BUT}"
)


_AS_AN_AI = (
    r"as an? (?:[\w-]+ ){0,3}(?:ai|assistant|chatbot|language model)\b[^.;!?]{0,80}?, ?"
    rf"(?:{_UNABLE}|i (?:don't|do not) have (?:the )?(?:ability|access|capability))\b{_NO_BUT}"
)


_REFUSAL = re.compile(rf"[\s*_#>]*(?:{_SORRY})?(?:{_AS_AN_AI}|{_UNABLE} (?:{_TASK}))", re.DOTALL)


def is_refusal(text: str) -> bool:
    """True if a text begins like an English refusal: "I'm sorry, but I can't help with that."

    An apology alone is no refusal, and neither is "I can't". The text must decline to help, to answer or to
    write content, or must speak as an AI. Where models often only hedge before they answer, no "but" may
    follow. Zou et al. (arXiv 2307.15043) detect refusals by openings as short as "I'm sorry" and "I cannot",
    but many real answers begin like that too.
    """
    return _REFUSAL.match(text[:300].lower().replace("’", "'")) is not None
