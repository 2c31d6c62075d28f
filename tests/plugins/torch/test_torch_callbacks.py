"""The callbacks, in the real Lightning and the real Trainer of Hugging Face."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import eigencore

# Both packages warn of their own use of PyTorch.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _restored_random_state():
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


# -- Lightning ---------------------------------------------------------------------------------------------


def fit(tmp_path, monitored, accumulate=1):
    """The trained module and the monitor of 12 batches with Lightning."""
    pytest.importorskip("lightning")
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.loggers import CSVLogger

    from eigencore_torch.training.lightning import LightningMonitor

    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))

        def forward(self, x):
            return self.model(x)

        def training_step(self, batch, index):
            x, y = batch
            return nn.functional.cross_entropy(self(x), y)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    module, x, y = Classifier(), torch.randn(32, 6), torch.randint(3, (32,))
    loader = DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)
    monitor, callbacks = None, []
    if monitored:
        quantities = ["preconditioned_sharpness", "critical_sharpness"]
        monitor = eigencore.Monitor(
            module, nn.CrossEntropyLoss(), [(x[:16], y[:16])], every=2, quantities=quantities
        )
        callbacks = [LightningMonitor(monitor, current_batch=True)]
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        accumulate_grad_batches=accumulate,
        callbacks=callbacks,
        logger=CSVLogger(tmp_path) if monitored else False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(module, loader)
    if monitored:
        trainer.logger.save()
    return module, monitor


def test_lightning_trains_the_same_and_logs_what_the_monitor_finds(tmp_path):
    alone, _ = fit(tmp_path, monitored=False)
    after = torch.get_rng_state()
    watched, monitor = fit(tmp_path, monitored=True)
    assert torch.equal(torch.get_rng_state(), after)
    for name, x in alone.state_dict().items():
        assert torch.equal(x, watched.state_dict()[name]), name
    assert monitor.columns["step"].tolist() == [2, 4, 6, 8, 10, 12]
    assert not any(row.failed for row in monitor.rows)
    assert np.isfinite(monitor.columns["preconditioned_sharpness"]).all()
    assert (monitor.columns["critical_threshold"] == 200).all()
    (logged,) = tmp_path.rglob("metrics.csv")
    header, *lines = logged.read_text().splitlines()
    assert "eigencore/critical_sharpness" in header
    assert len(lines) == 6


def test_lightning_with_accumulated_gradients_looks_after_steps_of_the_optimizer(tmp_path):
    _, monitor = fit(tmp_path, monitored=True, accumulate=2)
    assert monitor.columns["step"].tolist() == [2, 4, 6]


# -- Hugging Face ------------------------------------------------------------------------------------------


def trained(tmp_path, monitored):
    """The model and the monitor after ten steps of the Trainer."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from eigencore_torch.training.hugging_face import HuggingFaceMonitor

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    model = transformers.GPT2LMHeadModel(config)
    tokens = torch.randint(20, (16, 6))
    rows = [{"input_ids": one, "labels": one} for one in tokens]
    monitor, callbacks = None, []
    if monitored:
        data = [{"input_ids": tokens[:8], "labels": tokens[:8]}]
        monitor = eigencore.Monitor(model, "model", data, every=5)
        callbacks = [HuggingFaceMonitor(monitor)]
    arguments = transformers.TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=4,
        max_steps=10,
        learning_rate=1e-2,
        lr_scheduler_type="linear",
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(model, arguments, train_dataset=rows, callbacks=callbacks)
    trainer.train()
    return model, monitor


def test_the_trainer_of_hugging_face_trains_the_same(tmp_path):
    alone, _ = trained(tmp_path, monitored=False)
    after = torch.get_rng_state()
    watched, monitor = trained(tmp_path, monitored=True)
    assert torch.equal(torch.get_rng_state(), after)
    for name, x in alone.state_dict().items():
        assert torch.equal(x, watched.state_dict()[name]), name
    assert monitor.columns["step"].tolist() == [5, 10]
    assert not any(row.failed for row in monitor.rows)
    assert np.isfinite(monitor.columns["lambda_max"]).all()
    # The schedule has already moved on to the next step, which after the last one has a rate of zero.
    assert monitor.columns["learning_rate"].tolist() == pytest.approx([5e-3, 0.0])


def test_the_callbacks_are_imported_only_by_those_who_use_them():
    code = (
        "import sys, eigencore_torch.training.torch_training as t, eigencore; eigencore.Monitor; "
        "print([name for name in ('lightning', 'transformers', 'torchvision') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert (ran.stdout.strip(), ran.returncode) == ("[]", 0), ran.stderr
