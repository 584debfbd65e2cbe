"""Run Petals' client: `python petals_worker.py client JSON`; `… checkpoint CONFIG.JSON FOLDER` writes random weights.

Runs in the environment of the engine (petals 2.2.0), and needs nothing of swarmtop. It answers as `session` says: for
each line that it reads it asks for token after token as Petals' own examples do, one `generate` of one token each in an
inference session.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from typing import Any


def checkpoint(config_file: str, folder: str) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig.from_json_file(config_file)).save_pretrained(folder)


def client(config: dict[str, Any]) -> None:
    """`config`: own, folder, prefix, peers, prompt_tokens, steps, idle_ms, vocab."""
    import torch
    from petals import AutoDistributedModelForCausalLM  # type: ignore[import-not-found]
    from petals.client.routing import sequence_manager  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    # like its servers, on the address of the emulated host instead of loopback, which is the default
    init = sequence_manager.DHT.__init__
    sequence_manager.DHT.__init__ = functools.partialmethod(init, host_maddrs=[f"/ip4/{config['own']}/tcp/0"])
    model = AutoDistributedModelForCausalLM.from_pretrained(
        config["folder"], initial_peers=config["peers"], dht_prefix=config["prefix"], torch_dtype=torch.float32
    )
    ids = torch.tensor([[(7 * k + 1) % config["vocab"] for k in range(config["prompt_tokens"])]])
    length = config["prompt_tokens"] + config["steps"] + 2
    with model.inference_session(max_length=length) as session:  # the first one looks servers up and connects
        model.generate(ids, max_new_tokens=2, session=session)
    print("ready", flush=True)
    for _ in sys.stdin:
        with model.inference_session(max_length=length) as session:
            time.sleep(config["idle_ms"] / 1e3)
            inputs = ids
            for _step in range(1 + config["steps"]):
                began_ns = time.monotonic_ns()
                model.generate(inputs, max_new_tokens=1, session=session)
                print(f"token {began_ns} {time.monotonic_ns()}", flush=True)
                inputs = None
        print("end", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "checkpoint":
        checkpoint(*sys.argv[2:4])
    else:
        client(json.loads(sys.argv[2]))
