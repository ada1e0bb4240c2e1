"""Devices and precision. Only this module makes a Fabric."""

import logging
import platform
import sys
from typing import Literal

import torch
from joblib import cpu_count
from lightning_fabric import Fabric as Fabric

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)


def make_fabric(device: str, precision: str, devices: int = 1) -> Fabric:
    """Return the Fabric for a device and a precision.

    With several devices each has a process (DDP): `launch` of the Fabric starts this program again
    for each device but the first.

    Args:
        device: `cpu`, `cuda`, or `auto`: a GPU where there is one.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the processor computes in it (with
            AVX-512 bf16, against fp32 and contiguous weights, U-Nets take 2.6 times the images a
            second on ResNet34, 2.8 on tu-regnetx_002, 2.0 on ResNet18).
        devices: GPUs, or processes on a CPU.

    Raises:
        ValueError: `cuda` is wanted and there is none, or there are fewer GPUs than `devices`.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: got cuda, but torch sees no GPU here: set device to auto or cpu, or install "
            "a driver that fits this torch"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # no advertisements
    chosen = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    bf16 = precision == "bf16" or (precision == "auto" and computes_in_bf16(chosen))
    if chosen == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(
            f"devices: got {devices}, but torch sees {torch.cuda.device_count()} GPU(s): set "
            f"devices to that, or device to cpu"
        )
    return Fabric(
        accelerator=chosen,
        devices=devices,
        strategy="ddp" if devices > 1 else "auto",
        precision="bf16-mixed" if bf16 else "32-true",
    )


def computes_in_bf16(device: str) -> bool:
    """Return whether a device has bf16 arithmetic, rather than emulating it."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch has no public function for a CPU; both names exist in torch 2.10 to 2.15.
    features = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if platform.machine() == "arm64":
        return False  # Apple: autocast in bf16 was not measured
    return any(bool(getattr(torch.cpu, name, bool)()) for name in features)


def count_readers(wanted: int | Literal["auto"], fabric: Fabric) -> int:
    """Return the number of processes that read tiles for each training process.

    On a CPU `auto` is 0, since they would take cores from the network. On a GPU it is all cores but
    one: reading a crop took 20 ms of one core while the network trained on 416 crops a second.
    """
    if wanted != "auto":
        return wanted
    return readers_per_program(fabric.world_size) if fabric.device.type == "cuda" else 0


def readers_per_program(programs: int) -> int:
    """Return the number of readers of each of several programs, for one process per core in all."""
    return max(0, int(cpu_count()) // programs - 1)


def count_gpus() -> int:
    """Return how many GPUs torch sees."""
    return torch.cuda.device_count()


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory, MiB: of tensors on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        memory = psutil.Process().memory_info()
        return int(getattr(memory, "peak_wset", memory.rss)) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def be_deterministic() -> None:
    """Make torch deterministic, with a warning where an operation is not.

    On a CPU the same number of threads gives the same bits; another number may not.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    # By default torch then fills every new tensor: 900 fills a step of a ResNet34 U-Net, a quarter
    # of the host's time on a GPU. No code here reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined, unused-ignore]
