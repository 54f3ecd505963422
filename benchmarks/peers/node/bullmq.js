// BullMQ: its worker in this process, finished jobs removed.
import { Queue, Worker } from 'bullmq'
import { askedToFill, CONCURRENCY, connection, count, fill } from './counting.js'

if (askedToFill()) {
  const queue = new Queue('bench', { connection: connection() })
  await fill((events) => queue.addBulk(events.map((data) => ({ name: 'paid', data }))))
  await queue.close()
} else {
  const worker = new Worker('bench', async () => count(), {
    connection: connection(),
    concurrency: CONCURRENCY,
    removeOnComplete: { count: 0 },
  })
  process.once('SIGTERM', () => worker.close())
}
