"""One self-contained page about a swarm, to send to somebody: `swarmtop report SOURCE --html FILE`.

    gather     a source and a question → everything the page says, as plain data
    drawing    that data as SVG: the matrix as a heat map, series as lines, where the time goes as a bar
    page       data and drawings into the template, everything escaped

The page needs no network and no script, and prints on paper.
"""
