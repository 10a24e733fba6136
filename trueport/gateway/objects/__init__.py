"""Objects kept at a provider belong to the tenant, and the environment, that made them.

Several tenants may share an account at a provider, and to the provider they are then one. So the gateway remembers
who made what and through which credential. A request that names anything else is answered as one that names
nothing, before it is sent; one that names the caller's own goes to the account where it is kept.

`tables` says what providers keep and where it is named, `references` reads it off requests, `answers` and `lists` off
answers; all of these are pure. `ownership` has the steps of a call, `base` the store they ask.
"""
