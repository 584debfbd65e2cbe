"""Draw the placement screen as styled lines: stages, rates, candidates, and runs of watched engines. Its figures come
from `swarmtop.analysis`."""
