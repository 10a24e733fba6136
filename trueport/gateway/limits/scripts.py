"""The Lua that runs inside Redis. Every key a script may touch is declared, so it also runs on a cluster.

Redis's own clock decides which minute it is, because the gateways' clocks differ. A caller therefore names the counters
of four minutes around its own, m-2 … m+1, and the script picks; a caller whose clock is off by a minute or more gets
-1 instead of a guess. Counters live for two minutes, because a sliding window still weighs the previous one, and a
counter that lost its time to live gets it back.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

CANDIDATES: Final = (-2, -1, 0, 1)
"""Minutes, relative to the caller's, whose counters a script is given."""


@dataclass(frozen=True, slots=True)
class Script:
    source: str

    @property
    def sha(self) -> str:
        # Redis names a script by its SHA-1; nothing rests on the strength of the digest.
        return hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


# Checks every limit, then counts in all of them or in none.
#
# KEYS  for each limit, in order and only for bounds that are on: 4 request counters (m-2 … m+1), 4 token counters,
#       1 sorted set of calls in flight
# ARGV  m, 'sliding' | 'fixed', then for each limit: requests, tokens, concurrency (0 = off); then the tokens to
#       reserve, the call's id, the seconds after which its place is free again
# Returns {1, minute, seconds left of it, room…} or {0, minute, seconds left, why, which limit, wait, room…}; `room` is
# a pair (requests, tokens) for each limit, -1 where the bound is off; `why` is 1 requests, 2 tokens, 3 concurrency.
# Among several limits in the way the one with the longest wait is named.
_TAKE: Final = """
local t = redis.call('TIME')
local second, us = tonumber(t[1]), tonumber(t[2])
local minute = math.floor(second / 60)
local at = minute - tonumber(ARGV[1]) + 3
if at < 2 or at > 4 then return {-1, minute} end

local passed = second % 60 + us / 1e6
local left = math.ceil(60 - passed)
local fade = 0                                -- what the previous minute still weighs
if ARGV[2] == 'sliding' then fade = 1 - passed / 60 end
local tokens, call, longest = tonumber(ARGV[#ARGV - 2]), ARGV[#ARGV - 1], tonumber(ARGV[#ARGV])
local moment = second + us / 1e6
local why, which, wait = 0, 0, 0
local counters, places, rooms = {}, {}, {}

local function refuse(reason, number, seconds)
  if seconds > wait then why, which, wait = reason, number, seconds end
end

local function seconds_to_room(limit, current, previous, want)
  if fade == 0 then return left end
  if current + want <= limit then
    return math.max(1, math.ceil((1 - (limit - current - want) / previous) * 60 - passed))
  end
  local share = math.max(0, 1 - (limit - want) / math.max(current, 1))
  return math.min(120, left + math.ceil(share * 60))
end

local function look(first, limit, want, reason, number)
  local seen = redis.call('MGET', KEYS[first + at - 1], KEYS[first + at])
  local previous, current = tonumber(seen[1] or '0'), tonumber(seen[2] or '0')
  local free = limit - current - previous * fade
  if want > free + 1e-6 then
    refuse(reason, number, seconds_to_room(limit, current, previous, want))
  end
  counters[#counters + 1] = {KEYS[first + at], want}
  rooms[#rooms + 1] = {free, want}
end

local k = 0
for number = 1, (#ARGV - 5) / 3 do
  local requests = tonumber(ARGV[3 * number])
  local per_minute = tonumber(ARGV[3 * number + 1])
  local concurrency = tonumber(ARGV[3 * number + 2])
  if requests > 0 then
    look(k, requests, 1, 1, number)
    k = k + 4
  else
    rooms[#rooms + 1] = false
  end
  if per_minute > 0 then
    look(k, per_minute, tokens, 2, number)
    k = k + 4
  else
    rooms[#rooms + 1] = false
  end
  if concurrency > 0 then
    k = k + 1
    if redis.call('ZCOUNT', KEYS[k], string.format('(%.6f', moment), '+inf') >= concurrency then
      refuse(3, number, 1)
    end
    places[#places + 1] = KEYS[k]
  end
end

local granted = wait == 0
local reply = {1, minute, left}
if granted then
  for _, counter in ipairs(counters) do
    redis.call('INCRBY', counter[1], counter[2])
    if redis.call('TTL', counter[1]) < 0 then redis.call('EXPIRE', counter[1], 120) end
  end
  local keep = math.ceil(longest) + 60
  for _, place in ipairs(places) do
    redis.call('ZREMRANGEBYSCORE', place, '-inf', string.format('%.6f', moment))
    redis.call('ZADD', place, string.format('%.6f', moment + longest), call)
    if redis.call('TTL', place) < keep then redis.call('EXPIRE', place, keep) end
  end
else
  reply = {0, minute, left, why, which, wait}
end
for _, room in ipairs(rooms) do
  if not room then
    reply[#reply + 1] = -1
  elseif granted then
    reply[#reply + 1] = math.max(0, math.floor(room[1] - room[2] + 1e-6))
  else
    reply[#reply + 1] = math.max(0, math.floor(room[1] + 1e-6))
  end
end
return reply
"""

# Puts what was really used in the place of what was reserved.
#
# KEYS[1] the token counter that holds the reservation; ARGV[1] used - reserved
_SETTLE: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now = redis.call('INCRBY', KEYS[1], ARGV[1])
if now < 0 then redis.call('INCRBY', KEYS[1], -now) end
if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], 120) end
return 1
"""

# Adds what a process counted on its own while Redis was away to the present minute.
#
# KEYS 4 counters (m-2 … m+1); ARGV m, how much to add (negative after a settlement)
_ADD: Final = """
local minute = math.floor(tonumber(redis.call('TIME')[1]) / 60)
local at = minute - tonumber(ARGV[1]) + 3
if at < 2 or at > 4 then return -1 end
local now = redis.call('INCRBY', KEYS[at], ARGV[2])
if now < 0 then redis.call('INCRBY', KEYS[at], -now) end
if redis.call('TTL', KEYS[at]) < 0 then redis.call('EXPIRE', KEYS[at], 120) end
return 1
"""

# Says that a worker lives and counts the living.
#
# KEYS[1] the sorted set of workers; ARGV the worker, the seconds for which one sign of life counts
_BEAT: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('EXPIRE', KEYS[1], 120)
return redis.call('ZCARD', KEYS[1])
"""


@dataclass(frozen=True, slots=True)
class Scripts:
    take: Script = Script(_TAKE)
    settle: Script = Script(_SETTLE)
    add: Script = Script(_ADD)
    beat: Script = Script(_BEAT)


SCRIPTS: Final = Scripts()
