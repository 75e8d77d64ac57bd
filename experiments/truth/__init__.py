"""Training loops with known costs, which measure their own truth, beside what profkit says.

`loop` and `realistic` are the programs that run under `profkit run`; they do not know profkit.
`settings` says which of them run with what, `agreement` compares, `page` writes the report.
"""
