"""Text for messages."""

from collections.abc import Iterable


def shorten(names: Iterable[object], count: int = 10, separator: str = ", ") -> str:
    """List names in a message, the first few of many."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - count} more" if len(texts) > count else ""
    return separator.join(texts[:count]) + more
