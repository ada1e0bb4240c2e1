"""Land-cover maps from a handful of labelled points."""

from typing import TYPE_CHECKING, Any

UNKNOWN_VERSION = "0+unknown"
"""The value of `__version__` where the source runs without being installed."""

_API = {
    "ImageArray": "pointcover.raster.arrays",
    "Map": "pointcover.api.model",
    "Model": "pointcover.api.model",
    "fit": "pointcover.api.fit",
    "open_model": "pointcover.api.model",
    "Project": "pointcover.api.project",
    "assess": "pointcover.api.accuracy",
    "sample": "pointcover.api.accuracy",
    "ReadingSettings": "pointcover.maps.settings",
}
"""Names of the Python interface by the module that has them, which is imported when it is used."""

__all__ = ["__version__", *_API]

if TYPE_CHECKING:
    from pointcover.api.accuracy import assess as assess
    from pointcover.api.accuracy import sample as sample
    from pointcover.api.fit import fit as fit
    from pointcover.api.model import Map as Map
    from pointcover.api.model import Model as Model
    from pointcover.api.model import open_model as open_model
    from pointcover.api.project import Project as Project
    from pointcover.maps.settings import ReadingSettings as ReadingSettings
    from pointcover.raster.arrays import ImageArray as ImageArray

    __version__: str
else:

    def __getattr__(name: str) -> Any:
        """Return a name when it is asked for, so that an import does no work."""
        if name in _API:
            from importlib import import_module

            from pointcover.runtime.errors import naming_packages

            with naming_packages(f"pointcover.{name}"):
                return getattr(import_module(_API[name]), name)
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(__name__)
        except PackageNotFoundError:
            return UNKNOWN_VERSION
