"""The names that are used where the user gives none. Only strings: reading them imports nothing."""

ENTRY_POINT_GROUP = "eigencore"

PROBLEM = "demo:digits"
BACKEND = "torch"
SOLVER = "lanczos"
KIND = "hessian"
