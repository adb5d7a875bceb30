"""Ids and paths on the command line, which are text whatever they look like."""

from __future__ import annotations

import re
from collections.abc import Collection

from hydra.core.override_parser.types import Quote, QuotedString

from p_rnn.settings.errors import UserError

# An element in quotes, or up to the next comma.
ELEMENT = re.compile(r"""\s*(?:'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|([^,'"][^,]*|))\s*(,|$)""")


def as_typed(word: str, keys: Collection[str]) -> str:
    """An override key=[a,b] of one of `keys` with every element quoted; others as they are.

    Otherwise Hydra would read 1_000, 1e5 and true as other things than ids. The brackets may be
    left out, so that key=a,b is a list, too. An id with a comma needs quotes inside the brackets.

    Raises:
        UserError: a bracket or a quote that is not closed, an empty id, or one with ${.
    """
    key, _, value = word.partition("=")
    value = value.strip()
    if key not in keys or not value or value == "null":
        return word
    if "${" in value:
        raise UserError(f"cannot read '{word}': ids with ${{ work only in a file, sessions=<file>")
    opened, closed = value.startswith("["), value.endswith("]")
    if opened != closed:
        raise UserError(f"cannot read '{word}': a bracket is missing; give {key}=[a,b]")
    ids = _elements(value[1:-1] if opened else value, word)
    quoted = [QuotedString(text, Quote.single).with_quotes() for text in ids]
    return f"{key}=[{','.join(quoted)}]"


def path_as_typed(word: str, keys: Collection[str]) -> str:
    """An override of one of `keys` with its value quoted: paths have =, blanks and brackets."""
    key, _, value = word.partition("=")
    plain = not value or value == "null" or value[0] in "'\"" or "${" in value
    if key not in keys or plain:
        return word
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def _elements(text: str, word: str) -> list[str]:
    if not text.strip():
        return []
    found, at = [], 0
    while True:
        match = ELEMENT.match(text, at)
        if match is None:
            raise UserError(f"cannot read '{word}': a quote is not closed, or something follows it")
        single, double, bare, end = match.groups()
        if bare is not None:
            found.append(bare.strip())
        else:
            found.append(re.sub(r"\\(['\"\\])", r"\1", single if double is None else double))
        if not found[-1]:
            raise UserError(f"cannot read '{word}': it has an empty id; leave that comma out")
        if not end:
            return found
        at = match.end()
