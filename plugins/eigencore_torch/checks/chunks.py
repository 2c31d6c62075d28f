"""The check of `torch.vocabulary_chunk`: the loss is computed by chunks, and is the same."""

from __future__ import annotations

from dataclasses import replace

import torch

from eigencore.errors import ProblemError
from eigencore_torch.batch_loss import BatchLoss
from eigencore_torch.data.batches import Batches, sample_count, take_samples
from eigencore_torch.evaluation.chunked_logits import chunked_logits, output_layer


def check_chunks(loss: BatchLoss, batches: Batches) -> None:
    """Compares the loss of the first sample, by chunks, with that from its logits.

    Raises:
        ProblemError: no cross-entropy is computed by chunks, or the two differ.
    """
    if loss.vocabulary_chunk is None:
        return
    batch = next(iter(batches), None)
    if batch is None:
        return
    few, plain = batch, replace(loss, vocabulary_chunk=None)
    if sample_count(batch) is not None:
        few = take_samples(batch, slice(1))
    with torch.no_grad():
        with chunked_logits(loss.model, loss.vocabulary_chunk) as tokens:
            chunked = plain(few, 0)
        whole = plain(few, 0)
    layer = output_layer(loss.model)
    name = next((name for name, module in loss.model.named_modules() if module is layer), "the output layer")
    if not tokens:
        raise ProblemError(
            "torch.vocabulary_chunk has no effect: the loss is not a plain cross-entropy of the outputs of "
            f"{name}",
            hint="Leave torch.vocabulary_chunk at none; torch.microbatch limits the memory of logits, too. "
            "Between the layer and torch.nn.functional.cross_entropy, without weights and label smoothing, "
            "tokens may be selected and reshaped, but logits not be scaled or capped.",
        )
    tolerance = torch.finfo(whole.dtype).eps ** 0.5
    if not torch.allclose(chunked.to(whole.dtype), whole, rtol=tolerance, atol=tolerance, equal_nan=True):
        raise ProblemError(
            f"torch.vocabulary_chunk changes the loss of the first sample from {float(whole):g} to "
            f"{float(chunked):g}",
            hint="Leave torch.vocabulary_chunk at none.",
        )
