from .advice import RESUME as RESUME
from .advice import products_ahead as products_ahead
from .callback import ProgressCallback as ProgressCallback
from .interrupt import interruption as interruption
from .loop import Progress as Progress
