"""Peak memory of one method, in a process of its own: ``latency_memory METHOD N SIDE``."""

import sys
from pathlib import Path


def peak() -> float:
    """Peak resident memory of this process so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux, getrusage starts from the peak of the parent process.
        line = next(text for text in status.read_text().splitlines() if text.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main(name: str, count: int, side: int) -> None:
    """Take `count` outcomes in, choose once, print the peak."""
    from bluesky_gpsts.benchmarks.latency_methods import METHODS, Problem
    from bluesky_gpsts.benchmarks.stock import quiet_gpcam

    with quiet_gpcam(0):
        method = METHODS[name](Problem(side))
        method.fill(count)
        method.step()
    print(f"{peak():.3f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
