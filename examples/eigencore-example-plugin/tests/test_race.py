from __future__ import annotations

from eigencore.cli import main


def test_the_fewest_products_come_first(capsys):
    assert main(["race", "example:clusters", "davidson", "lanczos", "-k", "3"]) in (0, None)
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[2] for line in lines} == {"davidson", "lanczos"}
    products = [int(line.split()[0]) for line in lines]
    assert products == sorted(products)
    assert all(line.endswith("converged") for line in lines)


def test_a_misspelt_solver_is_reported_with_the_nearest_name(capsys):
    assert main(["race", "example:clusters", "davidsen"]) == 2
    assert "Did you mean davidson?" in capsys.readouterr().err
