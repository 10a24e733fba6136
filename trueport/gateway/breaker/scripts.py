"""The state machine of `machine` as Lua inside Redis, one atomic step for each question and each report.

All time is Redis's own, because the gateways' clocks differ. Every script gets the same three keys: state, meta, window
(see `scopes.ScopeKeys`), and answers {what, state, epoch, wait_ms, in_a_row, trips, pin}. Keys live for a day after
they were last written, so that circuits nobody uses leave; a pin stays.
"""

from dataclasses import dataclass
from typing import Final

from trueport.gateway.breaker.base import BreakerRules
from trueport.gateway.limits.scripts import Script

# `turn` begins a new epoch; `say` builds the answer from what is known by then.
_COMMON: Final = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local state = redis.call('GET', KEYS[1])
if state ~= 'open' and state ~= 'half_open' then state = 'closed' end
local m = redis.call('HMGET', KEYS[2], 'epoch', 'open_until', 'probe', 'probe_until', 'succ', 'trips', 'consec', 'pin')
local epoch, probe, pin = tonumber(m[1] or '0'), m[3] or '', m[8] or ''
local open_until, probe_until = tonumber(m[2] or '0'), tonumber(m[4] or '0')
local succeeded, trips, in_a_row = tonumber(m[5] or '0'), tonumber(m[6] or '0'), tonumber(m[7] or '0')

local function keep()
  if pin == '' then redis.call('EXPIRE', KEYS[2], 86400) else redis.call('PERSIST', KEYS[2]) end
end

local function turn(to)
  state, probe, probe_until = to, '', 0
  epoch = redis.call('HINCRBY', KEYS[2], 'epoch', 1)
  redis.call('SET', KEYS[1], to, 'EX', 86400)
  redis.call('HSET', KEYS[2], 'probe', '', 'probe_until', 0, 'succ', 0)
end

local function say(what)
  local wait = 0
  if state == 'open' then wait = open_until - now elseif state == 'half_open' then wait = probe_until - now end
  return {what, state, tostring(epoch), math.max(0, wait), in_a_row, trips, pin}
end
"""

# ARGV  1 id of the probe, if it comes to that  2 ms after which a probe that was not reported is given up
_ACQUIRE: Final = """
if pin == 'forced_open' then return say('deny') end
if pin == 'forced_closed' then return say('unguarded') end
if state == 'closed' then return say('pass') end
if state == 'open' then
  if now < open_until then return say('deny') end
  turn('half_open')
end
if probe ~= '' and now < probe_until then return say('deny') end
probe_until = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[2], 'probe', ARGV[1], 'probe_until', probe_until)
keep()
return say('probe')
"""

# ARGV  1 epoch of the permit, or '*'  2 id of the probe, '' for an ordinary attempt  3 ok | fail | void
#       4 how many such outcomes  5 jitter, 0 to 1  6 ms in a bucket  7 buckets  8 volume  9 failure percent
#       10 base cool-down, ms  11 longest cool-down, ms  12 jitter's spread  13 successes to close  14 failures in a row
_REPORT: Final = """
if pin ~= '' or (ARGV[1] ~= '*' and ARGV[1] ~= tostring(epoch)) then return say('stale') end

local function trip()
  local cooldown = math.min(tonumber(ARGV[10]) * 2 ^ math.min(trips, 30), tonumber(ARGV[11]))
  local spread = tonumber(ARGV[12])
  open_until = now + math.floor(cooldown * (1 - spread + 2 * spread * tonumber(ARGV[5])))
  trips, in_a_row = trips + 1, 0
  turn('open')
  redis.call('HSET', KEYS[2], 'open_until', open_until, 'trips', trips, 'consec', 0)
  redis.call('DEL', KEYS[3])
  keep()
  return say('opened')
end

if state == 'half_open' then
  if ARGV[2] == '' or ARGV[2] ~= probe then return say('stale') end
  if ARGV[3] == 'fail' then return trip() end
  probe, probe_until = '', 0
  redis.call('HSET', KEYS[2], 'probe', '', 'probe_until', 0)
  if ARGV[3] == 'void' then return say('released') end
  succeeded = succeeded + 1
  if succeeded < tonumber(ARGV[13]) then
    redis.call('HSET', KEYS[2], 'succ', succeeded)
    return say('released')
  end
  turn('closed')
  trips, in_a_row = 0, 0
  redis.call('HSET', KEYS[2], 'trips', 0, 'consec', 0)
  redis.call('DEL', KEYS[3])
  keep()
  return say('closed')
end
if state ~= 'closed' or ARGV[2] ~= '' or ARGV[3] == 'void' then return say('stale') end

local bucket, buckets, weight = math.floor(now / tonumber(ARGV[6])), tonumber(ARGV[7]), tonumber(ARGV[4])
local counted = redis.call('HINCRBY', KEYS[3], string.format('%.0f:%s', bucket, ARGV[3]), weight)
redis.call('PEXPIRE', KEYS[3], tonumber(ARGV[6]) * (buckets + 1))
local failed, volume = 0, 0
if counted == weight or ARGV[3] == 'fail' then           -- a new bucket, so that old ones leave, or a new sum is due
  local all = redis.call('HGETALL', KEYS[3])
  for at = 1, #all, 2 do
    local which, kind = string.match(all[at], '^(%d+):(%a+)$')
    if tonumber(which) <= bucket - buckets then
      redis.call('HDEL', KEYS[3], all[at])
    else
      volume = volume + tonumber(all[at + 1])
      if kind == 'fail' then failed = failed + tonumber(all[at + 1]) end
    end
  end
end
if ARGV[3] == 'ok' then
  if in_a_row > 0 then
    in_a_row = 0
    redis.call('HSET', KEYS[2], 'consec', 0)
  end
  return say('counted')
end
in_a_row = in_a_row + weight
redis.call('HSET', KEYS[2], 'consec', in_a_row)
keep()
if in_a_row >= tonumber(ARGV[14])
  or (volume >= tonumber(ARGV[8]) and failed * 100 >= tonumber(ARGV[9]) * volume) then return trip() end
return say('counted')
"""

_LOOK: Final = """
return say('seen')
"""

# ARGV  1 forced_open | forced_closed | ''
_PIN: Final = """
pin, in_a_row = ARGV[1], 0
turn(state)
redis.call('HSET', KEYS[2], 'pin', pin, 'consec', 0)
redis.call('DEL', KEYS[3])
keep()
return say('seen')
"""


@dataclass(frozen=True, slots=True)
class BreakerScripts:
    acquire: Script
    report: Script
    look: Script
    pin: Script

    def sources(self) -> list[str]:
        return [script.source for script in (self.acquire, self.report, self.look, self.pin)]


SCRIPTS: Final = BreakerScripts(
    acquire=Script(_COMMON + _ACQUIRE),
    report=Script(_COMMON + _REPORT),
    look=Script(_COMMON + _LOOK),
    pin=Script(_COMMON + _PIN),
)


def rule_arguments(rules: BreakerRules) -> tuple[int | str, ...]:
    """The arguments 6 to 14 of the report script."""
    return (
        rules.bucket_ms,
        rules.buckets,
        rules.volume,
        rules.failure_percent,
        rules.base_cooldown_ms,
        rules.longest_cooldown_ms,
        repr(rules.jitter),
        rules.successes_to_close,
        rules.consecutive,
    )
