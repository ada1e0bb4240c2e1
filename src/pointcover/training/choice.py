"""Entries of registries: a function, and the names of the settings that it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

MadeT = TypeVar("MadeT")


@dataclass(frozen=True)
class Choice(Generic[MadeT]):
    """A function that a setting chooses, and the names of the settings that it takes."""

    function: Callable[..., MadeT]
    options: tuple[str, ...] = ()
    """Names of settings of `train`, which are keyword arguments of the function. Other settings
    have no effect on this choice."""

    def call(self, settings: Any, *args: Any, **keywords: Any) -> MadeT:
        """Call the function with its options from the settings."""
        options = {name: getattr(settings, name) for name in self.options}
        return self.function(*args, **keywords, **options)
