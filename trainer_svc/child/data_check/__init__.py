"""Looking at the data of a job as its training would, without training.

The steps are those of a run; only what is done about a finding differs
(findings.py, an Inspection). Drawn in ARCHITECTURE.md.
"""
