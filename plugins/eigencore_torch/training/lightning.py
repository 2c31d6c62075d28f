"""The callback for Lightning.

    from eigencore_torch.training.lightning import LightningMonitor

It is imported from here, because it needs the package `lightning`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from eigencore.pipeline.monitoring.monitor import Monitor


class LightningMonitor(Callback):  # type: ignore[misc]
    """Lets a monitor look after each step of the optimizer, and logs its numbers with the trainer's loggers.

    Args:
        monitor: a monitor of the LightningModule, or of the model in it that is trained. With several
            optimizers, it gets the first.
        current_batch: whether critical sharpness is that of the loss of the current batch, which must have
            the form of the monitor's data; otherwise it is that of the monitor's data.
    """

    def __init__(self, monitor: Monitor, *, current_batch: bool = False):
        self.monitor, self._current_batch, self._seen = monitor, current_batch, 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks if the optimizer has made a step: with accumulated gradients, it makes fewer than batches."""
        if trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        row = self.monitor.step(
            trainer.optimizers[0], batch=batch if self._current_batch else None, step=trainer.global_step
        )
        if row is not None:
            for logger in trainer.loggers:
                logger.log_metrics({f"eigencore/{name}": x for name, x in row.numbers.items()}, row.step)
