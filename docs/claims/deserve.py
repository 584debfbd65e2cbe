"""Predict DeServe's throughput over network latency, next to the published figures (`deserve.csv`).

The source states machines, layers, micro-batches and latencies, but not how long the requests were (OASST1, answers of
Llama 3). `PROMPT` and `GENERATE` are the lengths that give its two figures at 16 ms; the others follow from them. "opt"
swaps the caches of waiting micro-batches to RAM (PCIe 4.0 x16, 24 GB/s); "pp" holds them all in video memory.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from swarm_predict.model.catalogue import model_named
from swarm_predict.placement import parse_placement
from swarm_predict.priors.posterior import NEUTRAL
from swarm_predict.serving.lengths import exactly
from swarm_predict.serving.serve import serve
from swarm_predict.serving.traffic import Traffic
from swarm_predict.types import Workload
from swarm_protocol.swarm_files.swarm_file import parse_swarm

HERE = Path(__file__).parent
MODEL = model_named("llama-3-70b")
PLACEMENT = ",".join(f"l4-{k}:{10 * k}-{10 * k + 9}" for k in range(8))
PROMPT, GENERATE = 352, 167  # tokens
PCIE_GBPS = 24.0


def published() -> list[dict[str, str]]:
    lines = [line for line in (HERE / "deserve.csv").read_text().splitlines() if not line.startswith("#")]
    return list(csv.DictReader(lines))


def predicted(row: dict[str, str]) -> float:
    """Return tokens a second, with as many requests waiting as there is room for."""
    text = (HERE / "eight-l4.toml").read_text()
    swarm = parse_swarm(re.sub(r"rtt_ms = [\d.]+", f"rtt_ms = {2 * float(row['latency_ms'])}", text))
    swaps = row["system"] == "opt"
    batches = int(row["micro_batches"])
    found = serve(
        swarm,
        MODEL,
        [parse_placement(PLACEMENT, MODEL, swarm)],
        Workload(priors=NEUTRAL, offload_gbps=PCIE_GBPS if swaps else 0.0, offload_cache=swaps),
        Traffic(
            1.0, exactly(PROMPT), exactly(GENERATE), batches, batches * int(row["micro_batch_size"]) if swaps else 0
        ),
    )
    return found.most_tokens_per_s


def main() -> None:
    worst = {"opt": 0.0, "pp": 0.0}
    found: dict[str, float] = {}
    for row in published():
        got, want = predicted(row), float(row["tokens_per_s"])
        off = 100 * (got / want - 1)
        worst[row["system"]] = max(worst[row["system"]], abs(off))
        found[f"{row['system']}_{row['latency_ms'].replace('.', '_')}ms"] = got
    print(json.dumps(found | {f"{system}_worst_percent": off for system, off in worst.items()}))


if __name__ == "__main__":
    main()
