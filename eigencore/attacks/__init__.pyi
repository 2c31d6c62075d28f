from .counting import CountingClassifier as CountingClassifier
from .perturbation_checks import row_norms as row_norms
