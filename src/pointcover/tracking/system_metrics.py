"""Load of this machine, by the names that MLflow shows on its page of system metrics.

One value an epoch costs nothing; MLflow's own monitor is a thread that writes to the store every
ten seconds, also while another process has locked it.
"""

import psutil

_MEGABYTE = 1_000_000


def system_metrics() -> dict[str, float]:
    """Return processor and memory use; the processor's is the mean since the last call."""
    memory = psutil.virtual_memory()
    own = psutil.Process().memory_info().rss
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(interval=None),
        "system/system_memory_usage_percentage": memory.percent,
        "system/system_memory_usage_megabytes": (memory.total - memory.available) / _MEGABYTE,
        "system/process_memory_usage_megabytes": own / _MEGABYTE,
    }
