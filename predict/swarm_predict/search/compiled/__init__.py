"""Loops compiled by numba, and HiGHS: optional, behind `availability`."""
