from .advice import products_ahead as products_ahead
from .interrupt import interruption as interruption
from .loop import Progress as Progress
