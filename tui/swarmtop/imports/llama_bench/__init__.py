"""Read llama-bench's output, as layer times of the machine it ran on.

rows      its JSON, JSON lines and CSV
markdown  its table, with the lines about devices before it
models    the model and weights of a row
layers    layer times of rows
"""
