"""Which plugins are installed, and the entries that they register.

- `discovery`: the plugins, from the metadata of installed distributions; nothing is imported.
- `loading`: one plugin's hooks, called and checked separately, so that a broken plugin affects no other.
- `catalogue`: all plugins and their entries by name; the implementation and the options of an entry.
- `wording`: how messages and listings refer to entries.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
