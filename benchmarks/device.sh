#!/usr/bin/env bash
# On a machine with one GPU, in under eight minutes: the tests that need it, and the tables of product.py and top10.py.
#
#     benchmarks/device.sh [PYTHON]
#
# PYTHON has eigencore, pytest-xdist and PyTorch for CUDA; peers of benchmarks/peers.txt that it lacks are left out. The
# results are written to benchmarks/results/*-gpu.json. It fails if a test or a benchmark fails, after all have run.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
failed=0

"$python" -c 'import torch; print(torch.cuda.get_device_name(), torch.__version__)' || exit 1
"$python" -m pytest -q -n 8 -p no:benchmark -k cuda tests/plugins/torch tests/conformance || failed=1
timeout 150 "$python" benchmarks/product.py --device cuda || failed=1
timeout 150 "$python" benchmarks/top10.py --device cuda --limit 10 --repeats 2 || failed=1
"$python" benchmarks/tables.py && sed -n '/^<!-- product-gpu/,/^<!-- end of top10-gpu/p' docs/benchmarks.md || failed=1
exit "$failed"
