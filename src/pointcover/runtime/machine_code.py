"""Functions that numba compiles to machine code."""

from typing import Any

import numba


def compiled(function: Any, *, contract: bool = False) -> Any:
    """Compile a function when it is first called; threads may run it at the same time.

    The code is kept in numba's cache where a folder of it can be written.

    Args:
        function: over numbers and arrays.
        contract: whether a product and a sum may be one instruction, which rounds once.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract"} if contract else False}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder of a cache can be written: compile anew in each process
        return numba.njit(**options)(function)
