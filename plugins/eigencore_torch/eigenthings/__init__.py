"""The functions of hessian-eigenthings 0.0.2, for code that was written for that package.

Only the import changes: `from eigencore_torch import compute_hessian_eigenthings`. Arguments, shapes and the
order of the values are those of 0.0.2; the numbers are those of `eigencore.solve`. This differs from 0.0.2
in:

1. Both modes run the solver `lanczos`: it finds the eigenvalues within the products that the arguments allow,
   where power iteration often does not. `power_iter` and `lanczos` differ in their arguments and in the order
   that they return. Whatever has not converged is reported by a RuntimeWarning.
2. The operator is the Hessian of the loss over all data at once, in evaluation mode, over the trainable
   weights. 0.0.2 averages the batches without regard to their sizes, and leaves the model in the mode that it
   is in. A DataLoader that shuffles is read in the order of its data set, and its last batch is not dropped.
3. Momentum, which shifts the eigenvalues in 0.0.2, and 16-bit vectors are not used, and a warning says so.
4. The same arguments give the same numbers: random vectors do not depend on `torch.manual_seed`. Nothing is
   printed, and the model stays on its device.

`docs/coming-from.md` shows the lines to write without these functions.

- `functions`: `compute_hessian_eigenthings`, `deflated_power_iteration`, `power_iteration`, `lanczos`.
- `hvp_operators`: `HVPOperator`, `LambdaOperator`, and their base class.
- `unused_arguments`: warnings about arguments that have no effect.
"""

from eigencore_torch.eigenthings.functions import compute_hessian_eigenthings as compute_hessian_eigenthings
from eigencore_torch.eigenthings.functions import deflated_power_iteration as deflated_power_iteration
from eigencore_torch.eigenthings.functions import lanczos as lanczos
from eigencore_torch.eigenthings.functions import power_iteration as power_iteration
from eigencore_torch.eigenthings.hvp_operators import HVPOperator as HVPOperator
from eigencore_torch.eigenthings.hvp_operators import LambdaOperator as LambdaOperator
from eigencore_torch.eigenthings.hvp_operators import Operator as Operator
