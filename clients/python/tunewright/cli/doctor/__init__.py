"""`tunewright doctor`: is this installation well, and if not, what to do about it.

`probes` asks, `services` and `hosts` judge (pure), `trial` trains something tiny,
`command` puts them together. Every call has a deadline; what does not answer is a finding.
"""
