"""Find the best placement on cost tables, with a proven bound. docs/planning.md explains it in words.

solve                       what everybody calls; `plan` also builds the tables and prices the answer
chain, star                 the two patterns as array problems; a star is solved there, for certain
exact, descent              chains: for certain up to 18 nodes, and a good order of any number soon
certify                     how far from the best a chain is: with `availability` by branch_and_price, else in numpy
branch_and_price, through   what is split by what, and the bound of one part: master, cuts, anchored
bound, part, core           the first prices, by subgradient; walks in numpy (layered, walk) or compiled
near, period, pinned        one outsider; most steps a second; layers that must lie where they lie
reason                      why there is none
fast, kernel*               what is compiled, loaded late
"""
