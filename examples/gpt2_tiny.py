"""What are the largest eigenvalues of the Hessian of a language model, and do fused kernels change them?

The model is a tiny GPT-2 of Hugging Face's transformers library (`pip install transformers`), made from its
configuration and trained on sequences that count, so that nothing is downloaded. Its batches are used as they
come: dictionaries that are passed to the model, which computes the loss itself. The sequences are padded to
the longest of their batch, with labels of -100.

    python examples/gpt2_tiny.py
"""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import eigencore

VOCABULARY = 11
PADDING = 0


def model(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=16,
            n_embd=16,
            n_layer=2,
            n_head=2,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=PADDING,
            eos_token_id=PADDING,
        )
    )


def sequences(batches: int = 3, size: int = 8) -> list[dict[str, torch.Tensor]]:
    """Batches of sequences that count from 1 to 10, again and again, of 5 to 16 tokens."""
    generator = torch.Generator().manual_seed(0)
    data = []
    for batch in range(batches):
        longest = 16 - 3 * batch
        lengths = torch.randint(5, longest + 1, (size, 1), generator=generator)
        first = torch.randint(10, (size, 1), generator=generator)
        places = torch.arange(longest)
        ids = (first + places) % 10 + 1
        padded = places >= lengths
        data.append(
            {
                "input_ids": ids.masked_fill(padded, PADDING),
                "attention_mask": (~padded).long(),
                "labels": ids.masked_fill(padded, -100),
            }
        )
    return data


def trained(network: torch.nn.Module, data: list[dict[str, torch.Tensor]], steps: int = 60) -> None:
    optimizer = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=3e-3)
    for step in range(steps):
        optimizer.zero_grad()
        network(**data[step % len(data)]).loss.backward()
        optimizer.step()


def main() -> eigencore.EigenResult:
    network, data = model(), sequences()
    trained(network, data)
    problem = eigencore.Problem(network, data, loss="model")
    for derivative in ("exact", "difference"):
        bound = eigencore.bind(problem, backend="torch", derivative=derivative)
        result = eigencore.solve(bound.operator(), k=3)
        print(f"{derivative}: {result.values.round(3)} {result.status}, floor {result.certificate.floor:.0e}")
    print(bound.description)
    return result


if __name__ == "__main__":
    main()
