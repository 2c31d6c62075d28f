"""What only the tests of eigencore need and no wheel contains: plugins broken on purpose, and spectra.

A law that no broken plugin violates proves nothing. `broken_solvers`, `broken_backends`,
`broken_classifiers`, `broken_attacks` and `broken_analyses` have one for every law of `eigencore.testing`,
made from a correct plugin (`block_krylov` for solvers) by a fault (`faults` for backends). The costs and the
misses of solvers are measured on `spectra` and compared with `krylov_limit`.
"""
