"""The conformance kit for solvers.

`checks` selects the laws that apply to a solver. `answer_laws` holds the laws of one answer, which apply to
every case of `eigencore.testing.gallery`, `behaviour_laws` those of snapshots, stopping, start vectors,
random numbers and related matrices, and `evidence_laws` that of evidence. `subject` runs the solver under
test and has an operator that fails on purpose.
"""
