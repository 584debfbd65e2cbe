"""Compare the probe's readings of NVIDIA GPUs with nvidia-smi's at the same time, idle and busy.

python -m bench gpu_readings
"""

from __future__ import annotations

import subprocess
import threading
import time
from typing import Final

from swarm_probe.machine.gpu import GpuReading, Gpus

FIELDS: Final = "memory.total,memory.free,power.draw.instant,power.draw.average,clocks.sm,clocks.mem,temperature.gpu"
REASONS: Final = "clocks_event_reasons.active,enforced.power.limit,driver_version"
WORK_S: Final = 6.0
EVERY_S: Final = 1.0
MIB: Final = 1 << 20


def main() -> int:
    gpus = Gpus()
    if not gpus.read():
        print(f"no NVIDIA card here ({gpus.problem or 'no driver'})")
        return 1
    print("at rest")
    _compare(gpus)
    done = threading.Event()
    work = threading.Thread(target=_work, args=(done,))
    work.start()
    time.sleep(2 * EVERY_S)
    print(f"multiplying matrices, {WORK_S:g} s")
    ends = time.monotonic() + WORK_S
    while time.monotonic() < ends:
        _compare(gpus)
        time.sleep(EVERY_S)
    done.set()
    work.join()
    return 0


def _compare(gpus: Gpus) -> None:
    readings = gpus.read()
    asked = ["nvidia-smi", f"--query-gpu={FIELDS},{REASONS}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip().splitlines()
    for reading, line in zip(readings, lines, strict=True):
        print(f"  ours        {_ours(reading)}")
        print(f"  nvidia-smi  {line}")


def _ours(reading: GpuReading) -> str:
    total, free = (
        "?" if size is None else f"{size / MIB:.0f}" for size in (reading.vram_total_bytes, reading.vram_free_bytes)
    )
    return (
        f"{total}, {free}, {reading.power_w} W, {reading.sm_clock_mhz}, {reading.mem_clock_mhz}, {reading.temp_c}; "
        f"{reading.throttle or 'not throttled'}, {reading.power_limit_w} W, {reading.driver}; "
        f"{reading.others} others, used {reading.util_percent} %"
    )


def _work(done: threading.Event) -> None:
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    while not done.is_set():
        for _ in range(20):
            a @ a
        torch.cuda.synchronize()


if __name__ == "__main__":
    raise SystemExit(main())
