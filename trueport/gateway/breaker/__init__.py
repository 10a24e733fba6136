"""Circuit breakers, shared through Redis or kept in this process, and the budget for further attempts.

`base` has the values and the `Breakers` protocol, `scopes` says which calls share a circuit, `machine` is the state
machine in plain Python, `local` runs it in this process, `redis` runs the same machine as scripts inside Redis and
falls back to this process when Redis is away. `retries` keeps retries from becoming a storm.
"""
