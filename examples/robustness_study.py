"""Which images is my network easily fooled on, and what tells them before an attack does?

    python examples/robustness_study.py

Needs pandas. The network is that of demo:digits: with ReLU its loss is curved over the input, its margins are
not. `make` of eigencore_demo.mnist in place of this one studies a network with smooth margins.
"""

from __future__ import annotations

import eigencore
from eigencore_demo.digits import make

IMAGES = 150  # the first test images; 200 or more are needed before small effects can show


def main() -> None:
    problem = make()
    bound = eigencore.bind(problem)

    # An attack by itself. The core evaluates what it returns, whatever the attack thinks of it.
    for eps in (0.0, 0.05, 0.1, 0.2):
        attacked = eigencore.attack(bound, "pgd", eps=eps, images=IMAGES, norm="Linf")
        print(f"accuracy under PGD, Linf {eps:4.2f}: {attacked.accuracy:6.1%}, {attacked.backward} gradients")

    # The smallest L2 perturbation that DDN finds for each image: upper bounds of the true ones.
    smallest = eigencore.attack(bound, "ddn", images=IMAGES, steps=300)

    # What the command does: eigenpairs of the Hessian over the weights, then first order and curvature of
    # each image. Without `distances` the analysis runs DDN itself. They may come from any attack and any
    # library, one for each image in the same order, inf where none was found.
    run = eigencore.analyze(
        problem,
        k=2,
        analyses=["robustness"],
        options={"robustness": {"images": IMAGES, "distances": smallest.distance}},
    )
    found = run.analyses["robustness"]
    print(found.verdict)

    # The verdict's words depend on these: where one fails, the attack is not to be trusted.
    for gate, outcome, seen in found.tables["gates"].rows:
        print(f"  {outcome} {gate}: {seen}")

    # All that was measured of each image, a row an image. Curvature is that of the correctly classified ones.
    frame = found.to_pandas()
    correct = frame[frame.correct]
    columns = ["r1", "margin", "gradient_norm", "loss", "lambda_max", "weight_curvature"]
    ranks = correct[columns].corrwith(correct.distance, method="spearman")
    print("rank correlation with the smallest perturbation:")
    print(ranks.round(3).to_string())
    print("the images that need the least:")
    print(
        correct.nsmallest(3, "distance")[["sample", "label", "distance", "r1"]]
        .round(3)
        .to_string(index=False)
    )


if __name__ == "__main__":
    main()
