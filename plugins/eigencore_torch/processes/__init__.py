"""Several processes that compute the products of a problem together.

- `process_group`: the processes of a group of torch.distributed: sums, rows, decisions, failures.
- `signals`: signals that are delayed during an exchange.
"""
