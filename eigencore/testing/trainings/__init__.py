"""The conformance kit for what `eigencore.Monitor` needs of a backend.

`checks` selects the laws, `laws` holds them, and `subject` starts a training and looks at it.
"""
