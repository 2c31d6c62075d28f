"""How sharp is the loss over the few weights that LoRA trains, compared with that over all weights?

A tiny GPT-2 (see gpt2_tiny.py) is trained to count, and then adapted by LoRA to count backwards
(`pip install transformers peft`). The operator is over the weights that are trainable: those of LoRA, or all
of them once the adapters are merged into the model.

    python examples/lora_tiny.py
"""

from __future__ import annotations

import torch
from gpt2_tiny import PADDING, model, sequences, trained
from peft import LoraConfig, get_peft_model

import eigencore


def backwards(data: list[dict[str, torch.Tensor]]) -> list[dict[str, torch.Tensor]]:
    """The same sequences with every number n in place of 11 - n."""
    turned = []
    for batch in data:
        kept = batch["attention_mask"] == 1
        ids = torch.where(kept, 11 - batch["input_ids"], PADDING)
        turned.append({**batch, "input_ids": ids, "labels": ids.masked_fill(~kept, -100)})
    return turned


def adapted(steps: int = 60) -> tuple[torch.nn.Module, list[dict[str, torch.Tensor]]]:
    network, data = model(), sequences()
    trained(network, data)
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    network, data = get_peft_model(network, config), backwards(data)
    trained(network, data, steps)
    return network, data


def main() -> eigencore.EigenResult:
    network, data = adapted()
    for name in ("LoRA", "all"):
        hessian = eigencore.operator(network, data, "model", backend="torch")
        result = eigencore.solve(hessian, k=3)
        print(f"{name}: {hessian.shape[0]} weights, {result.values.round(3)} {result.status}")
        if name == "LoRA":
            network = network.merge_and_unload().requires_grad_(True)
    return result


if __name__ == "__main__":
    main()
