"""Eigenvalues of all data from a sample of the data, with intervals.

- `arguments`: which of `samples`, `rtol` and `which` are valid.
- `estimate`: intervals for the eigenvalues of all data from the products of the groups.
- `measure`: the products of the groups, and those of all data with the vectors of a sample.
- `costs`: how many draws an accuracy takes, and what they cost beside a solve on all data.
- `sampled_solve`: `solve` with `samples` or `rtol`.
"""
