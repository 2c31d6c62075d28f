from .counting import CountingClassifier as CountingClassifier
from .perturbation_checks import row_norms as row_norms
from .radius_report import attack_report as attack_report
