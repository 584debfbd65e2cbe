"""Time one decoder layer of the model in question on this machine, and its memory and matrix rates.

    job         what the daemon asks and the child answers (no torch)
    supervisor  starts the child, bounds its time and memory, turns every failure into one line (no torch)
    timing      when a median is known well enough; how many distinct layers defeat the caches (no torch)
    conditions  when what was measured no longer holds (no torch)
    company     who else uses the devices, and what holds them back (no torch)
    points      what is timed and what fits (no torch)
    challenger  passes a challenge on to the child and its answers back (no torch)
    layers      the decoder layers, of attention, mlp and matrices; ends: embedding and LM head
    devices     which device, which format, how much of its memory may be used
    rates       memory bandwidth, matrix rate, host to device, disk
    measure     decode, prefill, LM head, embedding; graphs: as CUDA graphs; visits: what a visit adds
    answer      a challenge
    __main__    the child

torch is imported in the child process only.
"""
