"""`crdtdb demo`: three regions as three real processes, a partition, and one answer after it.

`story` writes by hand to every type and shows both truths during the cut; `replay` feeds a commit
history through the same regions. Either ends with a comparison against a plain loop over what was
acknowledged (`loop`, `tally`), which shares no code with the database.
"""
