from .look_rows import LookRow as LookRow
from .monitor import Monitor as Monitor
