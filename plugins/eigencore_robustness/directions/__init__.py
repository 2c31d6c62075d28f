"""Along directions: the way to a perturbed input, and eigenvectors over the weights.

perturbation_path  eigenvalues on the way to a perturbed input
weight_curvature   the loss along eigenvectors, and each sample's share of the first eigenvalue
weight_path        loss and accuracy of the samples along directions of the weights
direction_report   tables, figures and sentences on them
"""
