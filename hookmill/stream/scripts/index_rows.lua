-- Reads the index of a stream (index.lua). A part of direct_read.lua.
--
-- A row is what a record of the index has of the entries that are asked for: those with the sequence
-- numbers `from` to `to` in the millisecond `ms`.
-- Needs: `index_key`, set before the include.

--#include id_parts

local DIGEST = 16 -- bytes

local function id_of(ms, seq)
  return string.format('%.0f-%.0f', ms, seq)
end

-- Return a record as a row; nil where it has none of the entries behind `before`, up to `last`.
local function row_of(record, before, last)
  local ms, end_seq = parts_of(record[1])
  local before_ms, before_seq = parts_of(before)
  local last_ms, last_seq = parts_of(last)
  local row = { ms = ms, digests = record[2][2], packed_keys = record[2][4],
    packed_windows = record[2][6] }
  row.first = end_seq - #row.digests / DIGEST + 1 -- the first sequence number of the record
  row.from, row.to = row.first, end_seq
  if ms == before_ms then row.from = math.max(row.from, before_seq + 1) end
  if ms == last_ms then row.to = math.min(row.to, last_seq) end
  return ms <= last_ms and row.from <= row.to and row or nil
end

-- Return the rows of the entries behind `before`, up to `last`, and how many they are. With more than
-- `count` it ends: then some are deleted, and there may be very many of a stream that was deleted.
local function rows_of_index(before, last, count)
  local rows, found, from = {}, 0, before
  while found <= count do
    local record = redis.call('XRANGE', index_key, '(' .. from, '+', 'COUNT', 1)[1]
    local row = record and row_of(record, before, last)
    if not row then return rows, found end
    rows[#rows + 1], from = row, record[1]
    found = found + row.to - row.from + 1
  end
  return rows, found
end

-- Return the rows of the `count` entries behind `before`, up to `last`, and the gaps: the entries before
-- each row and behind the last one, read from the stream. Where the rows have entries that were
-- deleted, all is one gap.
local function rows_and_gaps(stream, before, last, count)
  local rows, found = rows_of_index(before, last, count)
  local gaps, missing, from = {}, count - found, before
  for i, row in ipairs(rows) do
    gaps[i] = {}
    if missing > 0 then
      gaps[i] = redis.call('XRANGE', stream, '(' .. from, '(' .. id_of(row.ms, row.from))
    end
    missing, from = missing - #gaps[i], id_of(row.ms, row.to)
  end
  if missing > 0 then
    gaps[#rows + 1] = redis.call('XRANGE', stream, '(' .. from, last)
    missing = missing - #gaps[#rows + 1]
  end
  if missing == 0 then return rows, gaps end
  return {}, { redis.call('XRANGE', stream, '(' .. before, last) }
end
