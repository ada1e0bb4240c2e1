"""Benchmarks are run by hand, so that nothing else says that what they import was moved."""

import pytest

from tests.imagery import ROOT
from tests.processes import run_python

IMPORT = """
    import importlib.util, pathlib, sys
    folder = pathlib.Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
"""


@pytest.mark.slow
def test_benchmarks_import_what_there_is():
    done = run_python(IMPORT, str(ROOT / "benchmarks"))
    assert (done.returncode, done.stderr) == (0, "")
