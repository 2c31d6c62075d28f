from .schedule import NO_RESULT as NO_RESULT
from .schedule import Findings as Findings
from .schedule import Planned as Planned
from .schedule import Selected as Selected
from .schedule import find_analyses as find_analyses
from .schedule import impossible as impossible
from .schedule import plan as plan
from .schedule import run_analyses as run_analyses
