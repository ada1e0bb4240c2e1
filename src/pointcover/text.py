"""Text for messages."""

from collections.abc import Iterable


def shorten(names: Iterable[object], count: int = 10, separator: str = ", ") -> str:
    """Return a list of names for a message: the first `count`, and the number of the others."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - count} more" if len(texts) > count else ""
    return separator.join(texts[:count]) + more
