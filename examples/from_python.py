"""What does an answer hold, and what can I do with it in Python?

    python examples/from_python.py

The model is that of my_model.py.
"""

from __future__ import annotations

from my_model import make

import eigencore


def main() -> None:
    problem = make(width=16)

    # What the command does, in one call.
    run = eigencore.analyze(problem, k=4, tol=1e-3)
    found = run.eigen
    print(found.advice)  # how it ended, and where it fell short, what to do
    print("eigenvalues", found.values.round(4))  # float64 on the host, the largest magnitude first
    print("residuals  ", found.residuals)  # ||A v - theta v||; here the solver's own estimates
    print(f"{found.matvecs:.0f} products with the Hessian")

    # The solver does not grade itself: fresh products do, after the last vector is fixed.
    sure = found.certificate
    print(f"within {sure.bound:.1e} of as many eigenvalues, at {sure.confidence:.0%}")
    print("not proved:", sure.not_proved)

    # The operator alone: it multiplies, and never forms the matrix.
    A = eigencore.operator(problem.model, problem.data, problem.loss)
    v = found.vectors[:, 0]  # (n,), an array of the operator's own library: here a tensor
    theta = float(v @ A.matvec(v))
    print(f"n = {A.shape[0]}, Rayleigh quotient of the first vector {theta:.4f}")

    # Where does that direction live? Its share of each parameter, in the order of model.named_parameters().
    sizes = [p.numel() for p in problem.model.parameters()]
    for (name, _), part in zip(problem.model.named_parameters(), v.split(sizes), strict=True):
        print(f"    {name:9s} {float(part @ part):6.1%}")

    # One layer's own Hessian: the parameters whose names match, all others held fixed. `which` is the end of
    # the spectrum: a Hessian is indefinite, so that its smallest eigenvalue is a question of its own.
    layer = eigencore.operator(problem.model, problem.data, problem.loss, params="2.*")
    for which in ("LA", "SA"):
        values = eigencore.solve(layer, k=2, which=which, certify="full").values
        print(f"layer 2, {which}: {values.round(4)}")


if __name__ == "__main__":
    main()
