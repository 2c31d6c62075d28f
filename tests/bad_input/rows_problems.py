"""Models, data and losses that can't be used, and some unusual ones that can."""

from __future__ import annotations

from rows import made

from eigencore.errors import CapabilityError, UsageError

ROWS = [
    # -- weights and models
    made("nan_in_weights", "head.bias", "NaN or infinite"),
    made("inf_in_weights", "head.bias", "NaN or infinite"),
    made("huge_weights", "loss of batch 0 is inf", "model and the loss"),
    made("no_weights", "no trainable weights"),
    made("no_module", "the model is a function", "torch.nn.Module"),
    made("lazy_layer", "weight has no shape yet"),
    made("meta_weights", "no values", "meta"),
    made("complex_weights", "weight is complex"),
    made("model_raises", "batch 0", "mat1 and mat2"),
    made("model_exits", "batch 0", "SystemExit: no more"),
    made("dropout_in_every_mode", "batch 0", "dropout"),
    made("in_train_mode", error=None, as_good_as="in_eval_mode"),
    made("half_weights", error=None, as_good_as="half_weights_widened"),
    made("weights_that_the_loss_does_not_reach", error=None, as_good_as="sound"),
    # -- data
    made("nan_in_data", "batch 0", "batch itself"),
    made("nan_in_one_batch", "batch 1", "batch itself"),
    made("inf_in_the_last_batch", "batch 2", "batch itself"),
    made("no_batches", "data is empty"),
    made("empty_loader", "data is empty"),
    made(
        "batch_of_no_samples",
        "batch 1 has no samples",
    ),
    made(
        "only_a_batch_of_no_samples",
        "batch 0 has no samples",
    ),
    made("one_shot", "data is a generator", "only once", "list"),
    made("used_up", "2 batches in the first pass", "and 0"),
    made("shuffled", "differ", "shuffle=False"),
    made("augmenting", "differ", "augmentation"),
    made("stream_of_samples", error=None, as_good_as="sound"),
    made("dataset", "data is a TensorDataset", "DataLoader"),
    made("not_iterable", "data is a int", "can't be iterated"),
    made("text_for_data", "data is a str"),
    made("loader_raises", "data failed at batch 1", "the cable is out"),
    made("loader_exits", "data failed at batch 1", "SystemExit: 0"),
    made("label_too_high", "labels of batch 2", "to 3", "3 classes"),
    made("label_below_zero", "labels of batch 2", "from -1"),
    made("labels_as_floats", "batch 0", "float64"),
    made("inputs_of_another_width", "batch 0", "(7, 3)"),
    # -- losses
    made("loss_of_each_sample", "(7,)", "batch 0", "mean"),
    made("loss_is_a_float", "returned a float", ".item()"),
    made("loss_is_none", "returned a NoneType"),
    made("loss_is_whole", "int64", "expected one floating-point number"),
    made("loss_is_infinite", "loss of batch 0 is inf", "model and the loss"),
    made("loss_detached", "does not depend on the trainable weights", "detach()"),
    made("loss_raises", "batch 0", "KeyError: 'missing'"),
    made("loss_is_text", "the loss is a str"),
    made("loss_over_the_batch", "neither the mean over samples nor the sum", "weight"),
    made("loss_without_second_derivative", "Once is marked once_differentiable"),
    made("unknown_reduction", "reduction is 'average'", "mean", error=UsageError),
    made("sum_with_a_weight", "reduction='sum' and weight", error=UsageError),
    made("weight_is_nan", "weight returned nan for batch 0"),
    made("bounds_in_the_wrong_order", "bounds are (1.0, 0.0)"),
    made(
        "regression",
        error=None,
        as_good_as="column",
    ),
    made(
        "column",
        "robustness needs",
        "no classifier",
        error=CapabilityError,
        flags=("--analyses", "robustness"),
        keywords={"analyses": "robustness"},
    ),
]
