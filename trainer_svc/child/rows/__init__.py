"""What the rows of a data set mean, whatever file they stand in.

Pure. `layout` finds a source's format and columns, `reading` makes a dialogue of
a row, of which `turns` and `parts` read one message, and `refusals` names the
kinds of data that this job cannot learn from.
"""
