from .members import Member as Member
from .rows import StudyRow as StudyRow
from .study import Study as Study
