"""From a model file to a network that predicts: configs into specs, specs into layers, weights into them.

The road of a file: `loading` recognises it and leads; `configs` and `graphs` read its architecture into
`specs`, every class and setting checked by the allowlist in `layers` and `rules` (after `legacy` has
translated old generations); `architecture` builds without allocating, `weights` fills.
"""
