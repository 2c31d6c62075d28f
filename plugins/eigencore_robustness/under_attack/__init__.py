"""What attacks find, and the gates that say whether it can be trusted.

attacker                what every attack of a study is given
attack_evaluation       the accuracy under attacks at several radii
smallest_perturbations  the least of several attacks in one norm
distances               the smallest L2 perturbations, found or supplied
worst_inputs            inputs of nearly the largest loss in a ball
gradient_watch          the gradients that an attack follows
line_integrals          whether gradients are those of the margin
gates                   what a gate is; those of the network and its samples
attack_gates            those of the attacks at fixed radii
distance_gates          those of the smallest perturbations
"""
