"""docs/outputs.py replaces blocks of output that are out of date, and only those."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGE = """Some text.

```python
print("...")
```

```text
one 1.00 s
two
```

1. In a list:

   ```sh
   eigen solvers
   ```

   ```text
   head
   ...
     lambda  12.34
     ...
   tail
   ```
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(DOCS))
    return SimpleNamespace(**runpy.run_path(str(DOCS / "outputs.py")))


def outputs(script: SimpleNamespace, *printed: str) -> str:
    shown = [block for block in script.blocks(PAGE) if block.language == "text"]
    return script.regenerated(PAGE, zip(shown, printed, strict=True))


def test_a_page_that_is_up_to_date_stays_as_it_is(script: SimpleNamespace) -> None:
    assert outputs(script, "one 1.004 s\ntwo\n", "head\nx\n  lambda  12.34\ny\nz\ntail\n") == PAGE


def test_a_block_shows_what_is_printed_now(script: SimpleNamespace) -> None:
    text = outputs(script, "one 2.5 s\nthree  \n\nfour\n", "head\nx\n  lambda  12.34\ny\ntail\n")
    assert text == PAGE.replace("one 1.00 s\ntwo\n", "one 2.5 s\nthree\n\nfour\n")


def test_omitted_lines_stay_omitted_where_others_changed(script: SimpleNamespace) -> None:
    text = outputs(script, "one 1.00 s\ntwo", "heading\nx\nlamb\n  lambda max 56.78\ny\nz\nthe tail\n")
    new = "   heading\n   ...\n     lambda max 56.78\n     ...\n   the tail\n"
    assert text == PAGE[: PAGE.index("   head")] + new + "   ```\n"


def test_tables_keep_their_rules_and_may_have_other_columns(script: SimpleNamespace) -> None:
    shown = [
        "title",
        "...",
        "  name   value",
        "  ────────────",
        "  a          1",
        "  b          2",
        "",
        "...",
    ]
    printed = ["title", "more", "", "  the name   number", "  a               5", "  b               6"]
    rest = ["", "end", "of it"]
    rule = "  " + "─" * 17
    assert script.shortened(shown, [*printed, *rest]) == [
        *("title", "...", *printed[3:4], rule, *printed[4:], "", "...")
    ]
    whole = [line for line in shown if line != "..."]
    assert script.shortened(whole, printed) == [*printed[:4], rule, *printed[4:]]


def test_a_line_that_is_not_printed_is_an_error(script: SimpleNamespace) -> None:
    with pytest.raises(SystemExit, match="no counterpart"):
        outputs(script, "one 1.00 s\ntwo", "head\n")


def test_every_page_with_output_is_known(script: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["outputs.py", "README.md"])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 2
