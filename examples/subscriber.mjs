// A subscriber in another language: verifies what Hookmill, or Marble itself, signs.
//
//     PORT=3000 MARBLE_WEBHOOK_SECRET=... node examples/subscriber.mjs

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const secret = process.env.MARBLE_WEBHOOK_SECRET;
if (!secret) throw new Error("set MARBLE_WEBHOOK_SECRET: without it, anyone could sign");

// Verify the received bytes. JSON that is parsed and written again has other bytes.
function isGenuine(body, header) {
  if (!body.length || !header?.startsWith("sha256=")) return false;
  const expected = Buffer.from(createHmac("sha256", secret).update(body).digest("hex"));
  const given = Buffer.from(header.slice("sha256=".length));
  return given.length === expected.length && timingSafeEqual(given, expected);
}

async function receive(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (!isGenuine(body, request.headers["x-marble-signature"])) return [401, "not verified"];
  try {
    const { event, data } = JSON.parse(body);
    return [200, `${event} ${JSON.stringify(data)}`];
  } catch {
    return [400, "not JSON"];
  }
}

const server = createServer(async (request, response) => {
  const [status, says] = await receive(request).catch(() => [400, "connection lost"]);
  console.log(status, says);
  response.writeHead(status).end();
});

server.listen(process.env.PORT ?? 3000, () => console.log("listening on", server.address().port));
