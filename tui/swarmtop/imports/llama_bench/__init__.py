"""What llama-bench prints, as layer times of the machine it ran on.

rows      its JSON, JSON lines and CSV
markdown  its table, with the lines about devices before it
models    which model and which weights a row speaks of
layers    layer times of rows
"""
