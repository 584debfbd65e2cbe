"""Read the output of GPU monitors, one reader for each family: text in, machines with their GPUs out.

tables    nvidia-smi: CSV of a query, the plain table, -q, -L
jsons     amd-smi, rocm-smi and gpustat
metrics   Prometheus text of DCGM, nvitop, all-smi and others
xmls      nvidia-smi -q -x
card      what each of them finds
"""
