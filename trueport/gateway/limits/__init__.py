"""Rate, token and concurrency limits and money budgets: shared through Redis, or counted in this process.

`base` has the values and the `Limits` protocol, `local` counts in memory, `redis` counts in one script per call and
falls back to a bounded local share when Redis is away. What a call can cost at most is held in each of its budgets
until it is settled. Nothing that matters is kept here alone: a durable ledger says where counting a period begins.
"""
