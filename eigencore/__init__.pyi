from .attacks.attack import attack as attack
from .entries import AnalysisEntry as AnalysisEntry
from .entries import AttackEntry as AttackEntry
from .entries import BackendEntry as BackendEntry
from .entries import CommandEntry as CommandEntry
from .entries import ProblemEntry as ProblemEntry
from .entries import SolverEntry as SolverEntry
from .errors import EigencoreError as EigencoreError
from .errors import Interrupted as Interrupted
from .hookspecs import hookimpl as hookimpl
from .interfaces import LinearOperator as LinearOperator
from .interfaces import Problem as Problem
from .interfaces import Snapshot as Snapshot
from .operators.conversion import as_operator as as_operator
from .pipeline import analyze as analyze
from .problems.binding import bind as bind
from .problems.binding import operator as operator
from .request import Request as Request
from .results import AnalysisResult as AnalysisResult
from .results import AttackResult as AttackResult
from .results import Certificate as Certificate
from .results import EigenResult as EigenResult
from .results import Run as Run
from .results import Status as Status
from .runs.folder import load as load
from .solving.solve import solve as solve

__version__: str
