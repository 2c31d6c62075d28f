"""The conformance kit for analyses.

`checks` selects the laws that apply to an analysis, `laws` holds them, and `subject` runs the analysis under
test on a small problem.
"""
