// counting.py in JavaScript: the measured event, and the count and time of handler calls.
import { renameSync, writeFileSync } from 'node:fs'

const BODY_BYTES = 214
const CHUNK = 500

export const MESSAGES = Number(process.env.BENCH_MESSAGES ?? 1)
export const CONCURRENCY = Number(process.env.BENCH_CONCURRENCY ?? 100)

/** Where Redis is, as ioredis and the queues on it want it. */
export function connection() {
  const { hostname, port } = new URL(process.env.REDIS_URL)
  return { host: hostname, port: Number(port) }
}

/** Whether this run fills the queue. Otherwise it empties it. */
export const askedToFill = () => process.argv[2] === 'fill'

function order(number) {
  const event = {
    type: 'order.paid',
    order_id: `ord_${String(number).padStart(12, '0')}`,
    amount: 4200,
    note: '',
  }
  return { ...event, note: 'x'.repeat(BODY_BYTES - JSON.stringify(event).length) }
}

/** Give the events to `put`, some at a time. */
export async function fill(put) {
  for (let first = 0; first < MESSAGES; first += CHUNK) {
    const count = Math.min(CHUNK, MESSAGES - first)
    await put(Array.from({ length: count }, (_, index) => order(first + index)))
  }
}

let calls = 0
let began
let cpu

/** Count a handler call. The time starts with the first one, and the last one writes it. */
export function count() {
  calls += 1
  if (calls === 1) {
    began = process.hrtime.bigint()
    cpu = process.cpuUsage()
  }
  if (calls === MESSAGES) write()
}

function write() {
  const used = process.cpuUsage(cpu)
  const result = {
    messages: calls,
    seconds: Number(process.hrtime.bigint() - began) / 1e9,
    cpu_seconds: (used.user + used.system) / 1e6,
  }
  const path = process.env.BENCH_RESULT
  writeFileSync(`${path}.part`, JSON.stringify(result))
  renameSync(`${path}.part`, path)
}
