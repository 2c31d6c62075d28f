"""Completion in bash, zsh and fish: the script of each shell, and how it gets an answer.

A script passes the line up to the cursor and inserts what is printed. The answers come from `completion.py`.
This differs from click's own completion in:

1. Words may contain characters at which bash breaks them, such as the colon of demo:digits.
2. A value that is not complete yet, such as a folder or the name of an entry, is not followed by a space.
3. The value in --solver=NAME is completed in every shell.
4. What has been typed remains as it is, quotes and a leading ~ included.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

LINE, BREAKS = "_EIGEN_LINE", "_EIGEN_BREAKS"

_BASH = """\
%(complete_func)s() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        [[ -n $line ]] && COMPREPLY+=("$line")
    done < <(env _EIGEN_LINE="${COMP_LINE:0:COMP_POINT}" _EIGEN_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
    return 0
}
# The answer says where a space follows. bash before 4.4 always sorts.
complete -o nospace -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -o nospace -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local -a answer done_items open_items
    local kind item
    (( $+commands[%(prog_name)s] )) || return 1
    answer=("${(@f)$(env _EIGEN_LINE="${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX" \\
        %(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null)}")
    for kind item in "${answer[@]}"; do
        [[ $kind == done ]] && done_items+=("$item")
        [[ $kind == open ]] && open_items+=("$item")
    done
    (( $#done_items )) && _describe -V completions done_items -U -Q
    (( $#open_items )) && _describe -V completions open_items -U -Q -S ''
    (( $#done_items + $#open_items ))
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    env _EIGEN_LINE=(commandline -cp | string collect) \\
        %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null | string match --invert ""
end
complete --no-files --keep-order --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


@dataclass(frozen=True)
class Word:
    """A word of a line, as it is typed and as it is meant.

    Attributes:
        typed: its characters on the line, with quotes and backslashes.
        text: what it means to the command.
        quote: the quote that is open at its end, or "".
        begin: the place in `typed` from which a shell replaces it.
    """

    typed: str
    text: str
    quote: str = ""
    begin: int = 0


def words(line: str, breaks: str = "") -> list[Word]:
    """The words of a line up to the cursor; the last one, which may be empty, is the one at the cursor.

    Args:
        breaks: the characters at which bash breaks words, as in COMP_WORDBREAKS.
    """
    found, typed, text, quote, begin, unquoted = [], "", "", "", 0, 0
    characters = iter(line)
    for character in characters:
        if character.isspace() and not quote:
            if typed:
                found.append(Word(typed, text))
            typed, text, begin, unquoted = "", "", 0, 0
            continue
        typed += character
        if character == "\\" and quote != "'":
            following = next(characters, "")
            typed, text = typed + following, text + following
        elif character == quote:
            quote, begin = "", unquoted
        elif character in "'\"" and not quote:
            quote, begin, unquoted = character, len(typed), begin
        else:
            text += character
            begin = len(typed) if character in breaks and not quote else begin
    return [*found, Word(typed, text, quote, begin)]


class _Complete(ShellComplete):
    """What the shells have in common."""

    def complete(self) -> str:
        line = os.environ.get(LINE)
        if line is None:  # the shell has loaded the script of an earlier version
            return ""
        *before, word = words(line, os.environ.get(BREAKS, ""))
        items = self.get_completions([one.text for one in before[1:]], word.text)
        # click completes the value of --solver=la alone.
        option = re.match(r"-[^=]*=", word.text)
        prefix = option[0] if option is not None else ""
        return "\n".join(self.answer(word, f"{prefix}{item.value}", item) for item in items)

    def answer(self, word: Word, value: str, item: CompletionItem) -> str:
        """What is printed for one completion."""
        raise NotImplementedError


def _inserted(word: Word, value: str) -> str:
    """What has been typed, and the rest of the value with backslashes where the shell needs them."""
    if not value.startswith(word.text):
        return value
    rest = value[len(word.text) :]
    return word.typed + (rest if word.quote else re.sub(r"([^\w@%+=:,./~-])", r"\\\1", rest))


class _Bash(_Complete):
    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = _BASH

    def answer(self, word: Word, value: str, item: CompletionItem) -> str:
        # bash closes an open quote itself.
        space = "" if item.open or word.quote else " "
        return f"{_inserted(word, value)[word.begin :]}{space}"


class _Zsh(_Complete):
    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = _ZSH

    def answer(self, word: Word, value: str, item: CompletionItem) -> str:
        kind = "open" if item.open else "done"
        # _describe splits at the first colon that has no backslash, and removes one of each two.
        inserted = re.sub(r"([\\:])", r"\\\1", _inserted(word, value)[word.begin :])
        return f"{kind}\n{inserted}{':' if item.help else ''}{_line(item.help)}"


class _Fish(_Complete):
    """fish adds quotes itself, and no space after a value that ends with one of / : . ="""

    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = _FISH

    def answer(self, word: Word, value: str, item: CompletionItem) -> str:
        return f"{value}\t{_line(item.help)}"


def _line(text: Any) -> str:
    return " ".join(str(text or "").split())


for _shell in (_Bash, _Zsh, _Fish):
    add_completion_class(_shell)
