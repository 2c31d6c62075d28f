"""On which images is my network easily fooled, and what predicts this without an attack?

    python examples/robustness_study.py

This example needs pandas. The network is that of demo:digits. It uses ReLU, so its loss has curvature with
respect to the input, but its margins do not. To study a network with smooth margins, import `make` from
eigencore_demo.mnist instead.
"""

from __future__ import annotations

import eigencore
from eigencore_demo.digits import make

IMAGES = 150  # the first test images; small effects become detectable with 200 or more


def main() -> eigencore.Run:
    """Attacks the network, runs the robustness analysis, and prints what it finds."""
    problem = make()
    bound = eigencore.bind(problem)

    # An attack on its own. The core evaluates the inputs that the attack returns.
    for eps in (0.0, 0.05, 0.1, 0.2):
        attacked = eigencore.attack(bound, "pgd", eps=eps, images=IMAGES, norm="Linf")
        print(f"accuracy under PGD, Linf {eps:4.2f}: {attacked.accuracy:6.1%}, {attacked.backward} gradients")

    # The smallest L2 perturbation that DDN finds for each image: an upper bound of the true smallest one.
    smallest = eigencore.attack(bound, "ddn", images=IMAGES, steps=300)

    # The same as the command: eigenpairs of the Hessian over the weights, then the first-order estimate and
    # the curvature of each image. Without `distances`, the analysis runs two attacks. Distances may come from
    # any attack and any library: one per image in the same order, inf if no adversarial example was found.
    run = eigencore.analyze(
        problem,
        k=2,
        analyses=["robustness"],
        options={"robustness": {"images": IMAGES, "distances": smallest.distance}},
    )
    found = run.analyses["robustness"]
    print(found.verdict)

    # The verdict depends on these quality checks: if one fails, the distances are not reliable.
    for gate, outcome, finding in found.tables["gates"].rows:
        print(f"  {outcome} {gate}: {finding}")

    # All measurements, one row per image. Curvature is measured on correctly classified images.
    frame = found.to_pandas()
    correct = frame[frame.correct]
    columns = ["r1", "margin", "gradient_norm", "loss", "lambda_max", "weight_curvature"]
    ranks = correct[columns].corrwith(correct.distance, method="spearman")
    print("rank correlation with the smallest perturbation:")
    print(ranks.round(3).to_string())
    print("the images with the smallest perturbations:")
    print(
        correct.nsmallest(3, "distance")[["sample", "label", "distance", "r1"]]
        .round(3)
        .to_string(index=False)
    )
    return run  # run.plot("figures.pdf") draws it


if __name__ == "__main__":
    main()
