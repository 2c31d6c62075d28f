from .run import RunInterrupted as RunInterrupted
from .run import analyze as analyze
from .spectral import density as density
from .spectral import diagonal as diagonal
from .spectral import norms as norms
from .spectral import trace as trace
