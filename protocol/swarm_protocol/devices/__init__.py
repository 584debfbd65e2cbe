"""Hardware, lines and places by name: data sheets of devices, internet lines by kind, round trips between cities.

    table      the data sheets            names     from a driver's or a person's words to a row of it
    machines   the cards of one machine   access    lines by kind        places   cities and their round trips
    fill       columns of a Swarm         nodes     `--nodes '4090@Utrecht fiber, 2x4060'`

Imported where a name has to be looked up, and read from disk at the first look-up.
"""
