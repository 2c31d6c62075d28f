"""Directions: those of the smallest perturbations over the input, and eigenvectors over the weights.

alignments         the share of a perturbation along eigenvectors and gradients, beside placebos
perturbation_path  eigenvalues on the way to a perturbed input
weight_curvature   the loss along eigenvectors, and each sample's share of the first eigenvalue
weight_path        loss and accuracy of the samples along directions of the weights
direction_report   tables, figures and sentences on them
"""
