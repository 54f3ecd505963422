// The Node receiver: fastify verifies the same tokens with fast-jwt, and appends each delivery with an
// XADD. ioredis sends together what is due in one turn of the event loop. It writes no log lines.
import { createHash } from 'node:crypto'
import { createVerifier } from 'fast-jwt'
import fastify from 'fastify'
import { Redis } from 'ioredis'

const verify = createVerifier({
  key: process.env.QSTASH_CURRENT_SIGNING_KEY,
  algorithms: ['HS256'],
  allowedIss: 'Upstash',
  requiredClaims: ['exp', 'body'],
})

function isGenuine(token, body) {
  try {
    const hash = createHash('sha256').update(body).digest('base64url')
    return verify(token).body.replace(/=+$/, '') === hash
  } catch {
    return false
  }
}

const redis = new Redis(process.env.REDIS_URL, { enableAutoPipelining: true })
const app = fastify({ bodyLimit: 10 * 1024 * 1024 })
app.removeAllContentTypeParsers()
app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))

app.post('/qstash', async (request, reply) => {
  const { headers, body } = request
  if (!isGenuine(headers['upstash-signature'], body)) return reply.code(401).send('not verified')
  try {
    await redis.xadd('deliveries', '*', 'id', headers['upstash-message-id'], 'body', body)
  } catch {
    return reply.code(503).header('retry-after', '5').send('not stored')
  }
  return reply.send()
})

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) })
