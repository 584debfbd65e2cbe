"""Write one self-contained page about a swarm, to send to others: `swarmtop report SOURCE --html FILE`.

    gather     a source and a question → everything the page says, as plain data
    svg        drawings: the matrix as a heat map, series as lines, where the time goes as a bar
    html       data and drawings into the template, everything escaped

The page needs no network and no script, and prints on paper.
"""
