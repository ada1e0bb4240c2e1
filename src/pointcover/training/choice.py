"""Entries of registries: a function, and the settings that it takes by name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

MadeT = TypeVar("MadeT")


@dataclass(frozen=True)
class Choice(Generic[MadeT]):
    """A function that a setting may choose, and which further settings act on it."""

    function: Callable[..., MadeT]
    options: tuple[str, ...] = ()
    """Names of settings of `train`, which are the keyword arguments of the function. A setting
    that is not among them does nothing with this choice."""

    def call(self, settings: Any, *args: Any, **keywords: Any) -> MadeT:
        """Call the function with its options, read from the settings."""
        options = {name: getattr(settings, name) for name in self.options}
        return self.function(*args, **keywords, **options)
