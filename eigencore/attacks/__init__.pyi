from .attack import row_norms as row_norms
from .counting import CountingClassifier as CountingClassifier
