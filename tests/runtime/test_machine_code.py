"""Functions are compiled, also where their code cannot be kept."""

import numba
import pytest

from pointcover.runtime.machine_code import compiled


def test_functions_are_compiled_where_no_cache_can_be_written() -> None:
    found: dict = {}
    exec(compile("def double(a):\n    return a + a\n", "/missing/double.py", "exec"), found)
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(found["double"])
    assert compiled(found["double"])(2) == 4
