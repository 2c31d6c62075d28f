"""Top eigenvalues of a network's Hessian, certified, and what they say about how easily it is fooled."""
