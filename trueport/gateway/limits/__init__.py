"""Rate, token and concurrency limits: shared through Redis, or counted in this process.

`base` has the values and the `Limits` protocol, `local` counts in memory, `redis` counts in one script per call and
falls back to a bounded local share when Redis is away.
"""
