"""What of a value may be stored, and how.

- `names`       what a name says about its value
- `policies`    open, sealed, masked or excluded, for model fields and for `data`
- `redaction`   in the web process: key names, cheap
- `detectors`   in the worker: patterns in text
- `encryption`, `data_keys`   how sealed values are stored

Rules, as `redactions` shows them: `model:<policy>`, `setting:<NAME>`, `name:<kind>`,
`type:<Field>`, `detector:<name>`, `path:<name>` and `limit:<what>`. Where a rule could not do its
work, the whole value was masked: `unparsed`, `unclassified` or `error`.
"""
