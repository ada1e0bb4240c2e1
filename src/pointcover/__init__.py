"""Land-cover maps from a handful of labelled points."""

from typing import TYPE_CHECKING

UNKNOWN_VERSION = "0+unknown"
"""The value of `__version__` where the source runs without being installed."""

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Return `__version__`, read when it is asked for, so that an import does no work."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(__name__)
        except PackageNotFoundError:
            return UNKNOWN_VERSION
