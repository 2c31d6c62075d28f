"""Studies: many networks, each analysed in a worker process, as rows of one table.

- `members`: the class `Member`, a network of a study, and the members that a factory yields.
- `checkpoints`: files of weights as members.
- `engines`: the processes or the cluster that compute rows.
- `orphans`: workers end with the study that started them.
- `rows`: the class `StudyRow`: what is kept of one member.
- `run_folders`: where the runs are saved.
- `workers`: computes rows in worker processes through joblib.
- `threads`: the number of threads that a row is computed with.
- `study_file`: the rows in a file of JSON lines, which a killed study continues from.
- `study_report`: the rows as findings, with figures across networks.
- `study`: the function `study`, and the class `Study` that it returns.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
