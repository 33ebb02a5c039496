"""Recognises code that stands in a text without fences, by its lines. With a word less it would be wrong."""

import re
from collections.abc import Iterator
from enum import IntEnum

from .spans import Span, iterate_lines

CERTAIN = re.compile(
    r"""[ \t]*(?:
    (?://|/\*|<!--|\#!|\#(?:include|define|if|ifdef|ifndef|endif|pragma)\b).*
    |(?:\"\"\"|\'\'\').*
    |(?:SELECT|FROM|WHERE|GROUP[ ]BY|ORDER[ ]BY|HAVING|(?:LEFT|INNER|OUTER|CROSS)?[ ]?JOIN|VALUES|UNION|LIMIT)[ ].*
    |(?:sudo|pip3?|npm|npx|yarn|git|docker|kubectl|curl|wget|tar|ls|grep|apt(?:-get)?)[ ](?:.*[ ])?--?[a-z].*
    |(?:>>>|\$[ ][a-z./~]|PS>|C:\\).*
    |(?i:select\b.+\bfrom\b|insert[ ]into\b|delete[ ]from\b|create[ ](?:table|index|view|database)\b|alter[ ]table\b
        |drop[ ]table\b|update[ ]\w+[ ]set\b)(?=.*[;=*(,]).*
    |(?:File[ ]"[^"]+",[ ]line[ ]\d+|at[ ][\w.$<>]+\(|Traceback[ ]\(most[ ]recent).*
    )""",
    re.VERBOSE,
)
"""A line of code whatever words it has: a comment, a command, SQL, a stack trace."""
LIKELY = re.compile(
    r"""[ \t]*(?:
    (?:async[ ]+)?(?:def|func|fn|function)[ ]+[\w.]+[ ]*[(<].*
    |(?:(?:public|private|protected|export|abstract|static|final|default|data|sealed)[ ]+)*
        (?:class|interface|struct|enum|trait|impl|namespace|type)[ ]+\w[^.!?]*[:{=]
    |(?:if|elif|for|while|with|switch|catch|except|match|case|try|else|finally|do)\b[^.!?]*[:{]
    |(?:else[ ]if|if|for|while|switch|catch)[ ]?\(.*\)[ ]*\{?
    |(?:from[ ]+[\w.]+[ ]+)?import[ ]+[\w.*]+(?:[ ]+as[ ]+\w+)?(?:,[ ]*[\w.]+(?:[ ]+as[ ]+\w+)?)*;?
    |import\b.*["'];?
    |(?:using|use|package|module)[ ]+[\w.:\\*{}, ]+;
    |(?:const|let|var|val|final|static|public|private|protected|export|return|yield|raise|throw|await|print|echo|assert)\b
        .*[=;{)\]].*
    |(?:return|yield|raise|throw|break|continue|pass|done|fi|endif|end)\b(?:[ ]\S+)?;?
    |@\w[\w.]*(?:\(.*\))?
    |(?:sudo|pip3?|npm|npx|yarn|git|docker|kubectl|curl|wget|cd|mkdir|apt(?:-get)?|export)[ ]+[-\w./:=]+
        (?:[ ]+\S+)*(?<![a-z][.!?,])
    |[\w.$\[\]'"*&-]+(?:,[ ]*[\w.$\[\]'"*]+)*[ ]*(?::[ ]*[\w.\[\], |]+)?[ ]*(?:[-+*/%|&^:]|\|\||&&|\?\?|<<|>>)?=(?!=).*
    |[\w.$:<>-]+\(.*\)[ ]*[;:{]?
    |</?(?!keep\b|context\b)[A-Za-z][^<>]*>.*
    |[)\]}]+[;,)]*(?:[ ]*(?:else|catch|finally)\b.*)?
    |[^{}]*[{}]
    |.*(?:=>|->|&&|\|\||\\)
    |.*[=(\[{+<>"'].*;
    |(?:\w+\.)*\w*(?:Error|Exception)(?::.*)?
    )\s*""",
    re.VERBOSE,
)
"""A line that is code unless it reads as prose."""
COMPANION = re.compile(
    r"(?:[ \t]{2,}|\t)\S.*|[ \t]*(?:\#|--|\*|[)\]}]).*|[ \t]*(?:-[ ])?[\w.-]+:(?:[ ]\S+)?\s*|\s*"
)
"""A line that is code beside lines that are: indented, a comment, brackets, a key with a word, blank."""
PROSE_WORD = re.compile(r"[\"'(\u201c\u201e]?[^\W\d_]+(?:['\u2019-][^\W\d_]+)*[,.;:!?)\"'\u201d]*")
INLINE_CODE = re.compile(r"`[^`\n]+`")
MIN_PROSE_WORDS = 6
MIN_PROSE_SHARE = 0.8
MAX_LINE_CHARS = 2000


class LineKind(IntEnum):
    """What a line is: code, what may stand beside code, or anything else."""

    OTHER = 0
    COMPANION = 1
    CODE = 2


def find_code_lines(text: str) -> Iterator[Span]:
    """Yield the stretches of lines that are code, without blank lines around them."""
    begun, end, has_code = -1, 0, False
    for start, line_end in iterate_lines(text):
        line = text[start:line_end].rstrip("\n")
        kind = _classify(line)
        continues = (
            has_code and end == start and line.startswith(("  ", "\t"))
        )  # as the words of a docstring do
        if kind is LineKind.OTHER and not continues:
            if has_code:
                yield begun, end
            begun, has_code = -1, False
        elif line.strip():
            begun, end = (start if begun < 0 else begun), line_end
            has_code = has_code or kind is LineKind.CODE
    if has_code:
        yield begun, end


def _classify(line: str) -> LineKind:
    if not line.strip():
        return LineKind.COMPANION
    line = line[:MAX_LINE_CHARS]
    if CERTAIN.match(line):
        return LineKind.CODE
    if _reads_as_prose(line):
        return LineKind.OTHER
    if LIKELY.fullmatch(line):
        return LineKind.CODE
    return LineKind.COMPANION if COMPANION.fullmatch(line) else LineKind.OTHER


def _reads_as_prose(line: str) -> bool:
    if line.rstrip()[-1] in "{}":
        return False
    words = INLINE_CODE.sub("code", line).split()
    prose = sum(PROSE_WORD.fullmatch(word) is not None for word in words)
    return len(words) >= MIN_PROSE_WORDS and prose >= MIN_PROSE_SHARE * len(words)
