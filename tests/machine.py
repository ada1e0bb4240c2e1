"""Settings of a machine for tests: no processes beside the test's own."""

from pointcover.runtime.settings import MachineSettings

MACHINE = MachineSettings(
    workers=1, backend="loky", readers=0, feature_cache=None, feature_cache_gb=1
)
