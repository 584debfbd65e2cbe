"""Time one decoder layer of the focused model on this machine, and its memory and matrix rates.

    job                 what the daemon requests and the child answers (no torch)
    supervisor          start the child, enforce its limits, report every failure in one line (no torch)
    limits              how long each step may take, and how much memory the child may use (no torch)
    child               watch the child's resources (no torch)
    attestation_client  pass a challenge on to the child and its answers back (no torch)
    attestation_worker  answer a challenge
    devices             which device, which format, how much of its memory may be used
    timing/             what is timed, for how long, and the timing of layers, rates and visits
    layers/             the decoder layers, of attention, mlp and matrices; the embedding and LM head
    __main__            the child

torch is imported in the child process only.
"""
