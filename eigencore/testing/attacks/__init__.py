"""The conformance kit for attacks.

`checks` selects the laws that apply to an attack, `laws` holds them, and `subject` runs the attack under test
on the small classifiers of `classifiers`.
"""
