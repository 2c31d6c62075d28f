from .caching import release as release
from .conversion import FunctionOperator as FunctionOperator
from .conversion import as_operator as as_operator
from .counting import CountingMinibatchOperator as CountingMinibatchOperator
from .counting import CountingOperator as CountingOperator
from .matrix_like import MatrixLike as MatrixLike
from .weights import WeightOperator as WeightOperator
