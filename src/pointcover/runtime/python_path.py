"""The environment of programs that run `python`, as DVC does for stages."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def with_this_python(extra: Mapping[str, str] = NOTHING) -> dict[str, str]:
    """Return the environment, changed by `extra`, in which `python` is the one that runs this."""
    environment = {**os.environ, **extra}
    folder = str(Path(sys.executable).parent)
    return environment | {"PATH": os.pathsep.join([folder, environment.get("PATH", "")])}
