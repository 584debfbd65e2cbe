"""Run loops compiled by numba, and HiGHS: optional, behind `availability`."""
