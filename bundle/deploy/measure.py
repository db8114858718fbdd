"""Speed and memory of an ONNX file in its own process: ``python -m bundle.deploy.measure FILE N``.

As in MLPerf Tiny (Banbury et al., 2021) the latency is that of one image at a time, and its 90th
percentile stands beside the median.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bundle import paths, surroundings

WARM, LARGE, REPEATS = 10, 64, 4  # runs before the measurement; images of a batch; its runs


def peak_bytes() -> int:
    """Return the most memory this process has held so far (resident set).

    Linux hands ru_maxrss on from the process that started this one; VmHWM is this program's own.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def session(path: Path, threads: int = 0) -> Any:
    """Return what runs an ONNX file on the CPU; `threads` 0 takes one for each core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def measured(path: Path, runs: int) -> dict[str, float]:
    """Return what `run` finds in a process that does nothing else."""
    command = [sys.executable, "-m", "bundle.deploy.measure", str(path), str(runs)]
    options: dict[str, Any] = {"cwd": paths.ROOT, "env": surroundings.child()}
    options |= {"stdout": subprocess.PIPE, "text": True, "check": True}
    done = subprocess.run(command, **options, stdin=subprocess.DEVNULL)
    return json.loads(done.stdout.splitlines()[-1])


def run(path: Path, runs: int) -> dict[str, float]:
    """Run an ONNX file on one thread and return seconds, images a second and bytes.

    Returns median_s and p90_s of `runs` single images, images_per_second in batches of LARGE, and
    peak_bytes: the most memory that loading it and a single image took beside the runtime itself.
    """
    import numpy as np
    import onnxruntime  # noqa: F401  (what it takes is not the network's)

    pixels = np.random.default_rng(0).integers(0, 256, (LARGE, 3, 32, 32), dtype=np.uint8)
    before = peak_bytes()
    running = session(path, threads=1)
    name = running.get_inputs()[0].name
    single = [_seconds(running, {name: pixels[:1]}) for _ in range(WARM + runs)][WARM:]
    peak = peak_bytes() - before
    large = [_seconds(running, {name: pixels}) for _ in range(1 + REPEATS)][1:]
    return {
        "median_s": float(np.median(single)),
        "p90_s": float(np.quantile(single, 0.9)),
        "images_per_second": LARGE / float(np.median(large)),
        "peak_bytes": peak,
    }


def _seconds(running: Any, images: dict) -> float:
    started = time.perf_counter()
    running.run(None, images)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]))))
