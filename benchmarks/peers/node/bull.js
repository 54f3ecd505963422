// Bull: its worker in this process, finished jobs removed.
import Queue from 'bull'
import { askedToFill, CONCURRENCY, connection, count, fill } from './counting.js'

const queue = new Queue('bench', { redis: connection() })
if (askedToFill()) {
  await fill((events) =>
    queue.addBulk(events.map((data) => ({ data, opts: { removeOnComplete: true } }))),
  )
  await queue.close()
} else {
  queue.process(CONCURRENCY, async () => count())
  process.once('SIGTERM', () => queue.close())
}
