"""The callback for the Trainer of Hugging Face's transformers.

    from eigencore_torch.training.hugging_face import HuggingFaceMonitor

It is imported from here, because it needs the package `transformers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from eigencore.pipeline.monitoring.monitor import Monitor


class HuggingFaceMonitor(TrainerCallback):  # type: ignore[misc]
    """Lets a monitor look after each step of the optimizer.

    The Trainer does not give the current batch to callbacks: critical sharpness is that of the monitor's
    data.

    Args:
        monitor: a monitor of the model that the Trainer trains.
    """

    def __init__(self, monitor: Monitor):
        self.monitor = monitor

    def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
        """Looks at the model after a step."""
        self.monitor.step(keywords["optimizer"], step=state.global_step)
