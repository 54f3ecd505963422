-- Reads the index of a stream (index.lua). A part of end_read.lua.
-- Needs: `index_key`, set before the include.

--#include id_parts

local DIGEST = 16 -- bytes

-- Return what the index has of the `count` entries behind `before`, up to `last`; nil where it has not
-- just these, as far as can be seen: somebody may have deleted entries. A row is what one record has of them: the sequence numbers `from` to `to`.
local function rows_of_index(before, last, count)
  local rows, found, from, ends = {}, 0, '(' .. before, before
  local before_ms, before_seq = parts_of(before)
  local last_ms, last_seq = parts_of(last)
  while found < count do
    local record = redis.call('XRANGE', index_key, from, '+', 'COUNT', 1)[1]
    if not record then return nil end
    local ms, end_seq = parts_of(record[1])
    local row = { ms = ms, digests = record[2][2], keys = record[2][4] }
    row.first = end_seq - #row.digests / DIGEST + 1 -- the first sequence number of the record
    row.from, row.to = row.first, end_seq
    if ms == before_ms then row.from = math.max(row.from, before_seq + 1) end
    if ms == last_ms then row.to = math.min(row.to, last_seq) end
    if ms > last_ms or row.from > row.to then return nil end
    found = found + row.to - row.from + 1
    rows[#rows + 1], from = row, '(' .. record[1]
    ends = row.ms .. '-' .. row.to
  end
  return found == count and ends == last and rows or nil
end
