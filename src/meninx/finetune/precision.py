"""Where a network is computed, and in what kind of number."""

import torch

from meninx.errors import StudyError


def find_device(name: str = "auto") -> torch.device:
    """Find the device to compute on.

    Parameters
    ----------
    name
        ``auto`` for the first graphics card there is and else the processor; or ``cpu``,
        ``cuda``, ``cuda:1``, ``mps``.

    Raises
    ------
    StudyError
        There is no such device on this machine.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise StudyError(
            f"there is no device {name!r} on this machine; use auto, cpu, cuda or mps"
        ) from error
    return device


def find_autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Find the kind of number in which training is faster than in float32, or None.

    By what the hardware is and not by a measurement, which would give one result today and
    another tomorrow. bfloat16 is twice as fast where the processor multiplies it natively (AMX,
    or AMD's ``avx512_bf16``), and slower on all others.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    if device.type != "cpu":
        return None
    can = torch.cpu.get_capabilities()
    is_amd = can.get("sse4a", False)  # no other maker's processors have these instructions
    is_native = can.get("amx_bf16") or (is_amd and can.get("avx512_bf16"))
    return torch.bfloat16 if is_native else None


def autocast(device: torch.device) -> torch.autocast:
    """Make the context in which a network is trained, and asked, on a device."""
    dtype = find_autocast_dtype(device)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)
