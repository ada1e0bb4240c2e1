"""Benchmarks are run by hand, so that nothing else says that what they import was moved."""

import pytest

from tests.imagery import ROOT
from tests.processes import run_python

IMPORT = """
    import importlib.util, sys
    spec = importlib.util.spec_from_file_location("benchmark", sys.argv[1])
    module = sys.modules["benchmark"] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, sys.argv[2])
    spec.loader.exec_module(module)
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_imports_what_there_is(path):
    done = run_python(IMPORT, str(path), str(path.parent))
    assert (done.returncode, done.stderr) == (0, "")
