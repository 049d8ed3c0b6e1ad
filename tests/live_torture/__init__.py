"""The live torture harness: a running platform under load, of which everything is killed.

`plan` says what happens, from a seed alone; `events` makes what the clients send; `clients` and
`spooling` send it; `tree` is the platform's processes; `ledger` is what must be there; `life`
runs a plan.
"""
