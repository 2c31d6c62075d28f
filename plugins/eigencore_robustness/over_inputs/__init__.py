"""Measurements of each sample: first-order margins, and curvature over the input.

first_order       the distance to the nearest boundary of the linearised network
input_eigenpairs  eigenpairs of each sample's Hessian, by Lanczos on all samples at once
input_curvature   radii of quadratic models of the margin
input_fisher      the norm of each sample's Fisher matrix
alignments        the share of a perturbation along eigenvectors and gradients, beside placebos
sample_columns    all of them, as columns
"""
