"""Where the turns of a dialogue stand in the string that a chat template writes.

A room of small modules: `refusals` (why a row cannot be encoded), `template` (one chat
template, rendered), `shape` (a dialogue with its words taken out), `skeleton` (what a template
writes around the words of one shape), `by_turn` (the same without a skeleton), `thoughts` (how
a template takes a thought), `twins` (TRL's marked twin of a template), `finder` (which of these
is used for a row, and which characters carry loss).
"""
