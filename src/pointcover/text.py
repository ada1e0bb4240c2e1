"""Text for messages."""

import unicodedata
from collections.abc import Iterable


def compose(text: str) -> str:
    """Return text in Unicode's composed form (NFC): "ä" may also be "a" and a mark, as on macOS."""
    return unicodedata.normalize("NFC", text)


def shorten(names: Iterable[object], count: int = 10, separator: str = ", ") -> str:
    """Return a list of names for a message: the first `count`, and the number of the others."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - count} more" if len(texts) > count else ""
    return separator.join(texts[:count]) + more
