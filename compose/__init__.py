"""Deployment: docker compose files, images, the set-up script, and the local stack.

Lives here: everything that starts the parts this project runs on. `compose.local` starts real ones on this
machine (two Redis, a chain, an IPFS node) for the demo, for tests and for benchmarks; the YAML files beside
it describe the same parts in their production shape.

Does not live here: any of the work itself. Nothing in this package imports `workers`, `tasks`, `chain` or
`storage`; it starts their processes by command line and tells them where things are by `FITCHAIN_*`
variables.
"""
