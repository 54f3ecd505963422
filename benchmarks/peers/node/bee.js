// bee-queue: its worker in this process, finished jobs removed. Nothing listens to its events.
import Queue from 'bee-queue'
import { askedToFill, CONCURRENCY, connection, count, fill } from './counting.js'

const queue = new Queue('bench', {
  redis: connection(),
  isWorker: !askedToFill(),
  getEvents: false,
  sendEvents: false,
  storeJobs: false,
  removeOnSuccess: true,
})
if (askedToFill()) {
  await fill((events) => queue.saveAll(events.map((event) => queue.createJob(event))))
  await queue.close()
} else {
  queue.process(CONCURRENCY, async () => count())
  process.once('SIGTERM', () => queue.close())
}
