"""Flax and Equinox models, and weights from files, against the same network as a plain function."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from eigencore.arrays import to_host
from eigencore.errors import PluginError, ProblemError, UsageError
from eigencore.problems import bind
from eigencore_jax.models import as_model
from kit.jax_networks import C, D, H, jax, jnp, small_jax

PARAMS = small_jax().model[1]


def product(**changes):
    """The loss of the small problem, with a model of its weights, and one product."""
    bound = bind(small_jax(**changes))
    operator = bound.operator()
    return bound.loss(), to_host(operator.matvec(jnp.ones(operator.shape[0])))


def sizes(layout):
    return sorted(one.where.stop - one.where.start for one in layout)


def linen():
    nn = pytest.importorskip("flax.linen")

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(C, name="head")(jax.nn.softplus(nn.Dense(H, name="hidden")(x)))

    layers = {name: {"kernel": part["w"], "bias": part["b"]} for name, part in PARAMS.items()}
    return (Net(), {"params": layers}), ["head.bias", "head.kernel", "hidden.bias", "hidden.kernel"]


def nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden, self.head = nnx.Linear(D, H, rngs=rngs), nnx.Linear(H, C, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.head(self.dropout(jax.nn.softplus(self.hidden(x))))

    net = Net(nnx.Rngs(0))
    for name, part in PARAMS.items():
        layer = getattr(net, name)
        layer.kernel[...], layer.bias[...] = part["w"], part["b"]
    return net, ["head.bias", "head.kernel", "hidden.bias", "hidden.kernel"]


def equinox():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        hidden: eqx.nn.Linear
        head: eqx.nn.Linear
        dropout: eqx.nn.Dropout

        def __call__(self, x):
            return self.head(self.dropout(jax.nn.softplus(self.hidden(x))))

    def layer(part):
        made = eqx.nn.Linear(*part["w"].shape, key=jax.random.key(0))
        return eqx.tree_at(lambda one: (one.weight, one.bias), made, (part["w"].T, part["b"]))

    net = Net(layer(PARAMS["hidden"]), layer(PARAMS["head"]), eqx.nn.Dropout(0.5))
    return net, ["hidden.weight", "hidden.bias", "head.weight", "head.bias"]


@pytest.mark.parametrize("make", [linen, nnx, equinox], ids=lambda make: make.__name__)
def test_a_model_of_a_library_is_the_function_that_it_stands_for(make):
    model, names = make()
    loss, expected = product()
    found, own = product(model=model, backend=None)  # found by the class of the model
    assert list(as_model(model).weights) == names
    assert found == pytest.approx(loss, rel=1e-6)
    np.testing.assert_allclose(np.sort(own), np.sort(expected), atol=1e-5)
    assert as_model(model).call == as_model(model).call  # compiled once for both


def test_running_statistics_are_constants_and_a_checkpoint_does_not_replace_them(tmp_path):
    model = (lambda parts, x: x, {"w": np.ones(2, "float32"), "steps": np.array(3)})
    assert list(as_model(model).weights) == ["w"]
    nn = pytest.importorskip("flax.linen")
    net = nn.BatchNorm(use_running_average=True)
    variables = net.init(jax.random.key(0), jnp.ones((2, D)))
    assert sorted(as_model((net, variables)).weights) == ["bias", "scale"]
    np.savez(tmp_path / "w.npz", bias=np.zeros(D), scale=np.ones(D))
    with pytest.raises(ProblemError, match="running statistics"):
        bind(small_jax(model=(net, variables), checkpoint=tmp_path / "w.npz"))


OTHER = small_jax(seed=1).model[1]
NAMED = {f"{layer}.{name}": np.asarray(w) for layer, part in OTHER.items() for name, w in part.items()}


def saved(tmp_path, kind):
    if kind == "npz":
        np.savez(tmp_path / "w.npz", **{f"params/{name}": w for name, w in NAMED.items()})
        return tmp_path / "w.npz"
    if kind == "safetensors":
        pytest.importorskip("safetensors.numpy").save_file(NAMED, tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"
    orbax = pytest.importorskip("orbax.checkpoint")
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "saved", {"params": OTHER})
    return tmp_path / "saved"


@pytest.mark.filterwarnings("ignore")  # of Orbax
@pytest.mark.parametrize("kind", ["npz", "safetensors", "orbax"])
def test_weights_are_read_from_a_file(kind, tmp_path):
    bound = bind(small_jax(checkpoint=saved(tmp_path, kind)))
    assert f"weights of {'saved' if kind == 'orbax' else f'w.{kind}'}" in bound.description
    expected = [float(np.linalg.norm(NAMED[one.name])) for one in bound.layout()]
    assert [one.norm for one in bound.layout()] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head.b": None}, "lacks head.b"),
        ({"head.b": np.zeros(9, "float32")}, "the model has shape"),
        ({"head.b": np.zeros(C, int)}, "the model has shape"),
        ({"tail.w": np.zeros(3)}, "has tail.w, which the model does not have"),
    ],
    ids=["missing", "shape", "integers", "unknown"],
)
def test_a_file_that_does_not_match_is_refused(change, words, tmp_path):
    arrays = {name: w for name, w in (NAMED | change).items() if w is not None}
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(ProblemError, match=words):
        bind(small_jax(checkpoint=tmp_path / "w.npz"))


def test_other_files_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="does not exist"):
        bind(small_jax(checkpoint=tmp_path / "none.npz"))
    for name in ("w.pt", "w.npz", "w.safetensors"):
        (tmp_path / name).write_bytes(b"no")
        with pytest.raises(ProblemError, match=r"can't be read|not a checkpoint"):
            bind(small_jax(checkpoint=tmp_path / name))
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(PluginError, match="needs safetensors"):
        bind(small_jax(checkpoint=tmp_path / "w.safetensors"))
