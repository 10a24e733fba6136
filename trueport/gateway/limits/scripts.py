"""The Lua that runs inside Redis. Every key a script may touch is declared, so it also runs on a cluster.

Redis's own clock decides which minute it is, because the gateways' clocks differ. A caller therefore names the counters
of four minutes around its own, m-2 … m+1, and the script picks; a caller whose clock is off by a minute or more gets
-1 instead of a guess. Counters live for two minutes, because a sliding window still weighs the previous one, and a
counter that lost its time to live gets it back.

One period of a budget is a purse, a hash with the fields
    spent           nano-dollars of the settled calls; without it nobody counts this period yet
    held            nano-dollars that calls in flight hold: the sum over the sorted set beside it
    told:<amount>   which charge was the first to reach this threshold, as `worker:number`
    from:<worker>   the number of the last charge of that worker that was counted
and a sorted set of the calls in flight, `amount:call id` -> moment of expiry. Amounts are compared as doubles, exact up
to 2^53, and added up as 64-bit integers; a sum beyond 2^53 grows no further.
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
#       1 sorted set of calls in flight; then for each budget its purse and the sorted set of calls that hold of it
# ARGV  m, 'sliding' | 'fixed', the number of budgets, then for each limit: requests, tokens, concurrency (0 = off);
#       then for each budget: its limit, 1 if it blocks, the Unix time at which its counter may go; then the tokens to
#       reserve, the call's id, the seconds after which its place is free again, and, if there are budgets, its cost
# Returns {1, minute, seconds left of it, room…, left…}, or {0, minute, seconds left, why, which, wait, room…, left…},
# or {-2, which…} for budgets that nobody counts yet. `room` is a pair (requests, tokens) for each limit, -1 where the
# bound is off; `left` is an amount for each budget; `why` is 1 requests, 2 tokens, 3 concurrency, 4 money, and `which`
# the number of the limit or budget. A budget in the way, the last to end of several, is named before any limit, and
# among several limits the one with the longest wait.
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
local budgets = tonumber(ARGV[3])
local last = #ARGV
if budgets > 0 then last = last - 1 end
local tokens, call, longest = tonumber(ARGV[last - 2]), ARGV[last - 1], tonumber(ARGV[last])
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
local limits = (last - 6) / 3 - budgets
for number = 1, limits do
  local requests = tonumber(ARGV[3 * number + 1])
  local per_minute = tonumber(ARGV[3 * number + 2])
  local concurrency = tonumber(ARGV[3 * number + 3])
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

local purses, lefts, until_ = {}, {}, 0
if budgets > 0 then
  local cost, now = tonumber(ARGV[#ARGV]), string.format('%.6f', moment)
  local unknown = {-2}
  for number = 1, budgets do
    local first = 3 * (limits + number)
    local limit, blocks, goes_at = tonumber(ARGV[first + 1]), ARGV[first + 2] == '1', tonumber(ARGV[first + 3])
    local purse, calls = KEYS[k + 1], KEYS[k + 2]
    k = k + 2
    local seen = redis.call('HMGET', purse, 'spent', 'held')
    if not seen[1] then
      unknown[#unknown + 1] = number
    else
      local spent, held, want = tonumber(seen[1]), tonumber(seen[2] or '0'), 0
      if blocks then
        local expired = redis.call('ZRANGEBYSCORE', calls, '-inf', now)
        for _, member in ipairs(expired) do held = held - tonumber(string.match(member, '^%d+')) end
        if #expired > 0 then redis.call('ZREMRANGEBYSCORE', calls, '-inf', now) end
        local in_flight = redis.call('ZCARD', calls)
        if in_flight == 0 then held = 0 end
        if held ~= tonumber(seen[2] or '0') then redis.call('HSET', purse, 'held', string.format('%.0f', held)) end
        want = math.min(cost, limit + 1)
        local taken = spent + held
        if not (taken < limit and (in_flight == 0 or taken + want <= limit)) and goes_at > until_ then
          why, which, until_ = 4, number, goes_at
        end
      end
      purses[#purses + 1] = {purse, calls, want, goes_at}
      lefts[#lefts + 1] = {limit - spent - held, want}
    end
  end
  if #unknown > 1 then return unknown end
end

local granted = why == 0
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
  for _, purse in ipairs(purses) do
    if purse[3] > 0 then
      local amount = string.format('%.0f', purse[3])
      redis.call('HINCRBY', purse[1], 'held', amount)
      redis.call('ZADD', purse[2], string.format('%.6f', moment + longest), amount .. ':' .. call)
      if redis.call('TTL', purse[2]) < keep then redis.call('EXPIRE', purse[2], keep) end
    end
    if redis.call('TTL', purse[1]) < 0 then redis.call('EXPIRE', purse[1], math.max(60, purse[4] - second)) end
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
for _, money in ipairs(lefts) do
  if granted then money[1] = money[1] - money[2] end
  reply[#reply + 1] = math.max(0, money[1])
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

# Begins to count a period of a budget, unless another process has.
#
# KEYS  the purse, its calls in flight; ARGV what the ledger says was spent, the Unix time at which the purse may go,
#       then the thresholds in nano-dollars. Those reached already were told by whoever counted before.
_BEGIN: Final = """
if redis.call('HSETNX', KEYS[1], 'spent', ARGV[1]) == 0 then return 0 end
redis.call('EXPIRE', KEYS[1], math.max(60, tonumber(ARGV[2]) - tonumber(redis.call('TIME')[1])))
local held = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  held = held + tonumber(string.match(member, '^%d+'))
end
redis.call('HSET', KEYS[1], 'held', string.format('%.0f', held))
for number = 3, #ARGV do
  if tonumber(ARGV[number]) <= tonumber(ARGV[1]) then redis.call('HSET', KEYS[1], 'told:' .. ARGV[number], 'before') end
end
return 1
"""

# Counts what calls have cost and lets go of what they held. The same charge a second time is recognised by its number,
# changes nothing and gets the same answer, so one whose fate is unknown can be sent again.
#
# KEYS  the purse, its calls in flight
# ARGV  the worker, the number of the charge (grows for each worker), the cost, the number of thresholds, these in
#       nano-dollars, then the members of the calls
# Returns {spent, which threshold…} with those that this charge was the first to reach. {-1}: nobody counts the period,
# so it is not added, because the ledger has it (or will have) when counting begins anew.
_CHARGE: Final = """
local purse, calls, worker, number = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
local first_member = 5 + tonumber(ARGV[4])
local seen = redis.call('HMGET', purse, 'spent', 'held', 'from:' .. worker)
if not seen[1] then
  for at = first_member, #ARGV do redis.call('ZREM', calls, ARGV[at]) end
  return {-1}
end
local spent = tonumber(seen[1])
if tonumber(seen[3] or '0') < number then
  local held = tonumber(seen[2] or '0')
  for at = first_member, #ARGV do
    if redis.call('ZREM', calls, ARGV[at]) == 1 then held = held - tonumber(string.match(ARGV[at], '^%d+')) end
  end
  if spent < 2 ^ 53 then spent = tonumber(redis.call('HINCRBY', purse, 'spent', ARGV[3])) end
  redis.call('HSET', purse, 'held', string.format('%.0f', math.max(0, held)), 'from:' .. worker, ARGV[2])
end
local reply, named, mine = {spent}, {}, worker .. ':' .. ARGV[2]
for at = 5, first_member - 1 do
  local field = 'told:' .. ARGV[at]
  if spent >= tonumber(ARGV[at]) and not named[field] then
    named[field] = true
    if redis.call('HSETNX', purse, field, mine) == 1 or redis.call('HGET', purse, field) == mine then
      reply[#reply + 1] = at - 4
    end
  end
end
return reply
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
    begin: Script = Script(_BEGIN)
    charge: Script = Script(_CHARGE)
    beat: Script = Script(_BEAT)


SCRIPTS: Final = Scripts()
