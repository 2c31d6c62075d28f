"""What does a result contain, and what can I do with it in Python?

    python examples/from_python.py

The model is the one in my_model.py.
"""

from __future__ import annotations

from my_model import make

import eigencore


def main() -> eigencore.EigenResult:
    """Analyzes a model, and computes with its operator and eigenvectors."""
    problem = make(width=16)

    # The same as the command `eigen analyze`.
    run = eigencore.analyze(problem, k=4, tol=1e-3)
    found = run.eigen
    print(found.advice)  # the status and, if the result falls short, what to do
    print("eigenvalues", found.values.round(4))  # float64 on the host, in order of decreasing magnitude
    print("residuals  ", found.residuals)  # ||A v - theta v||, here as estimated by the solver
    print(f"{found.matvecs:.0f} products with the Hessian")

    # The solver's own estimates are not proof. The certificate is computed from fresh products with the final
    # vectors.
    certificate = found.certificate
    k, confidence = len(found.values), certificate.confidence
    print(f"the {k} values are within {certificate.bound:.1e} of {k} eigenvalues, at {confidence:.0%}")
    print("not proved:", certificate.not_proved)

    # The operator itself: it multiplies vectors, and the matrix is never formed.
    A = eigencore.operator(problem.model, problem.data, problem.loss)
    v = found.vectors[:, 0]  # (n,), an array of the operator's library, here a tensor
    theta = float(v @ A.matvec(v))
    print(f"n = {A.shape[0]}, Rayleigh quotient of the first vector {theta:.4f}")

    # Which parameters does this direction change most? The share of its squared norm in each parameter, in
    # the order of model.named_parameters().
    sizes = [p.numel() for p in problem.model.parameters()]
    for (name, _), part in zip(problem.model.named_parameters(), v.split(sizes), strict=True):
        print(f"    {name:9s} {float(part @ part):6.1%}")

    # The Hessian of one layer: over the parameters whose names match, with all others fixed. `which` selects
    # the end of the spectrum. A Hessian is indefinite, so its smallest eigenvalue is also of interest.
    layer = eigencore.operator(problem.model, problem.data, problem.loss, params="2.*")
    for which in ("LA", "SA"):
        values = eigencore.solve(layer, k=2, which=which, certify="full").values
        print(f"layer 2, {which}: {values.round(4)}")

    return found  # found.plot("figures.pdf") draws it


if __name__ == "__main__":
    main()
