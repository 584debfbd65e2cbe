"""Read measurements of other tools into a swarm file: each format is a module, pure text in, `Found` out.

    petals      the state JSON of a Petals health monitor: servers, spans, throughputs, pings
    matrix      round trips between named machines, as a square or a list in CSV
    irtt        the JSON that `irtt client -o` writes
    iperf3      the JSON that `iperf3 -J` prints
    pings       what ping and mtr print
    llama_bench what llama-bench prints: layer times for decode and prompts
    perfsonar   a pScheduler result: rtt, throughput or latency
    gpus        nvidia-smi, amd-smi, rocm-smi, gpustat and exporters (their readers are in `gpu`)
    kinds       which of these a file is

What is found becomes tables of a swarm file (`swarm_file_writer`), new or added to an existing one. A reader takes only
what its format states; the limits of the figures are in `Found.notes`.
"""
