// Drives the emulator with @upstash/qstash through every endpoint that it has, and verifies with
// its Receiver what was delivered. Input: {url, token, inbox}; output: each scenario's name with
// "" or what went wrong.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Client, QstashError, Receiver } from "@upstash/qstash";

const { url, token, inbox } = JSON.parse(readFileSync(0, "utf8"));
console.error = console.warn = () => {}; // the SDK tells of every refusal there

const client = new Client({ baseUrl: url, token, retry: false, devMode: false });
const scenarios = {};
const soon = Date.now() + 60_000;

async function scenario(name, act) {
  try {
    await act();
    scenarios[name] = "";
  } catch (error) {
    scenarios[name] = error.stack;
  }
}

async function until(find) {
  for (let tries = 0; tries < 1000; tries++) {
    const found = await find();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`waited in vain for ${find}`);
}

// The deliveries at a path, as soon as there are so many; each of them verified.
async function came(path, count = 1) {
  const at = async () => {
    const all = await (await fetch(`${inbox}/captured`)).json();
    const found = all.filter((one) => new URL(one.url).pathname === path);
    return found.length >= count && found;
  };
  const { current, next } = await client.http.request({ method: "GET", path: ["v2", "keys"] });
  const receiver = new Receiver({
    currentSigningKey: current,
    nextSigningKey: next,
    devMode: false,
  });
  const found = await until(at);
  for (const one of found) {
    one.text = Buffer.from(one.body, "base64").toString();
    const signature = one.headers["upstash-signature"];
    assert.ok(await receiver.verify({ signature, body: one.text, url: one.url }));
    await assert.rejects(receiver.verify({ signature, body: `${one.text} `, url: one.url }));
  }
  return found;
}

const refused = (status) => (error) => error instanceof QstashError && error.status === status;

await scenario("publishes JSON, text and bytes", async () => {
  const target = `${inbox}/js/a%2Fb?x=%C3%BC&y=1+2&&z=`;
  const sent = await client.publishJSON({
    url: target,
    body: { hello: "wörld" },
    headers: { "X-Mine": "yes" },
    method: "PUT",
    label: ["one", "two"],
  });
  const [json] = await came("/js/a%2Fb");
  assert.equal(json.url, target);
  assert.equal(json.method, "PUT");
  assert.deepEqual(JSON.parse(json.text), { hello: "wörld" });
  assert.equal(json.headers["x-mine"], "yes");
  assert.equal(json.headers["content-type"], "application/json");
  assert.equal(json.headers["upstash-message-id"], sent.messageId);
  assert.ok(!JSON.stringify(json.headers).includes(token));

  await client.publish({ url: `${inbox}/js/text`, body: "plain", headers: { "Content-Type": "text/plain" } });
  const [text] = await came("/js/text");
  assert.equal(text.text, "plain");
  assert.equal(text.headers["content-type"], "text/plain");

  const bytes = new Blob([new Uint8Array([1, 2, 127])]);
  await client.publish({ url: `${inbox}/js/bytes`, body: bytes });
  assert.equal((await came("/js/bytes"))[0].body, "AQJ/");
});

await scenario("delays, shows and cancels", async () => {
  const later = { url: `${inbox}/js/later`, body: "x", delay: "90d" };
  const sent = await client.publish({
    ...later,
    retries: 2,
    retryDelay: "1000 * (1 + retried)",
    callback: `${inbox}/js/told`,
    failureCallback: `${inbox}/js/failed`,
    label: ["one", "two"],
    timeout: 5,
    redact: { header: ["Secret"] },
    headers: { Secret: "hidden" },
    flowControl: { key: "js-later", parallelism: 2, rate: 3, period: "1m" },
  });
  const seen = await client.messages.get(sent.messageId);
  assert.equal(seen.url, `${inbox}/js/later`);
  assert.equal(seen.body, "x");
  assert.equal(seen.maxRetries, 2);
  assert.equal(seen.retryDelayExpression, "1000 * (1 + retried)");
  assert.equal(seen.callback, `${inbox}/js/told`);
  assert.equal(seen.failureCallback, `${inbox}/js/failed`);
  assert.deepEqual(seen.labels, ["one", "two"]);
  assert.equal(seen.label, "one");
  assert.ok(seen.header.secret[0].startsWith("REDACTED:"));
  assert.deepEqual(
    [seen.flowControlKey, seen.parallelism, seen.rate, seen.period, seen.ratePerSecond],
    ["js-later", 2, 3, 60, 3],
  );
  assert.ok(seen.notBefore > seen.createdAt);
  assert.deepEqual(await client.messages.cancel(sent.messageId), { cancelled: 1 });
  await assert.rejects(client.messages.get(sent.messageId), refused(404));
  await assert.rejects(client.messages.cancel(sent.messageId), refused(404));

  const notBefore = Math.floor(Date.now() / 1000) + 10 ** 9;
  const ids = [];
  for (const label of ["a", "b", "c", "d", "e", "f"]) {
    ids.push((await client.publish({ url: `${inbox}/js/later`, notBefore, label })).messageId);
  }
  await client.messages.delete(ids[0]);
  assert.deepEqual(await client.messages.cancel([ids[1], "msg_unknown"]), { cancelled: 1 });
  assert.deepEqual(await client.messages.cancel([]), { cancelled: 0 });
  const filter = { label: ["b", "c", "d"], host: new URL(inbox).host, path: "/js/later" };
  assert.deepEqual(await client.messages.cancel({ filter: { ...filter, path: "/other" } }), { cancelled: 0 });
  assert.deepEqual(await client.messages.cancel({ filter: { ...filter, toDate: 1 } }), { cancelled: 0 });
  assert.deepEqual(await client.messages.cancel({ filter }), { cancelled: 2 });
  assert.deepEqual(await client.messages.cancel({ all: true }), { cancelled: 2 });
});

await scenario("deduplicates", async () => {
  for (const how of [{ deduplicationId: "js-once" }, { contentBasedDeduplication: true }]) {
    const order = { url: `${inbox}/js/once`, body: JSON.stringify(how), ...how };
    const [first, second] = [await client.publish(order), await client.publish(order)];
    assert.equal(first.deduplicated, undefined);
    assert.equal(second.deduplicated, true);
    assert.equal(first.messageId, second.messageId);
  }
  assert.equal((await came("/js/once", 2)).length, 2);
});

await scenario("fans out to a URL group", async () => {
  const endpoints = [
    { name: "first", url: `${inbox}/js/group/1` },
    { url: `${inbox}/js/group/2` },
  ];
  await client.urlGroups.addEndpoints({ name: "js-group", endpoints });
  assert.deepEqual((await client.urlGroups.get("js-group")).endpoints, endpoints);
  const sent = await client.publishJSON({ urlGroup: "js-group", body: 1 });
  assert.deepEqual(sent.map((one) => one.url), endpoints.map((one) => one.url));
  for (const number of [0, 1]) {
    const [one] = await came(`/js/group/${number + 1}`);
    assert.equal(one.headers["upstash-message-id"], sent[number].messageId);
    assert.equal(one.headers["upstash-topic-name"], "js-group");
  }
  await client.urlGroups.removeEndpoints({ name: "js-group", endpoints: [{ name: "first" }] });
  assert.deepEqual((await client.urlGroups.list()).map((one) => one.endpoints), [[endpoints[1]]]);
  await client.urlGroups.delete("js-group");
  await assert.rejects(client.urlGroups.get("js-group"), refused(404));
  await assert.rejects(client.publish({ urlGroup: "js-group" }), refused(404));
});

await scenario("enqueues in order", async () => {
  const queue = client.queue({ queueName: "js-queue" });
  await queue.upsert({ parallelism: 1, paused: true });
  for (const body of ["1", "2"]) await queue.enqueue({ url: `${inbox}/js/queued`, body });
  await queue.enqueueJSON({ url: `${inbox}/js/queued`, body: 3 });
  const { name, parallelism, paused, lag } = await queue.get();
  assert.deepEqual({ name, parallelism, paused, lag }, { name: "js-queue", parallelism: 1, paused: true, lag: 3 });
  await assert.rejects(queue.enqueue({ url: inbox, delay: 5 }), refused(400));
  await queue.resume();
  assert.deepEqual((await came("/js/queued", 3)).map((one) => one.text), ["1", "2", "3"]);
  await queue.pause();
  assert.deepEqual((await queue.list()).map((one) => one.paused), [true]);
  await queue.delete();
  assert.deepEqual(await queue.list(), []);
});

await scenario("sends a batch beside what is wrong in it", async () => {
  await client.urlGroups.addEndpoints({ name: "js-team", endpoints: [{ url: `${inbox}/js/batch/1` }] });
  const sent = await client.batchJSON([
    { urlGroup: "js-team", body: 1 },
    { url: "ftp://nowhere", body: 2 },
    { url: `${inbox}/js/batch/2`, body: 3, headers: { "X-Mine": "yes" } },
    { url: `${inbox}/js/batch/3`, body: 4, queueName: "js-batch" },
    { url: `${inbox}/js/batch/4`, body: 5, retries: -1 },
  ]);
  assert.ok(sent[0][0].messageId && sent[2].messageId && sent[3].messageId);
  assert.match(sent[1].error, /URL/);
  assert.match(sent[4].error, /Upstash-Retries/);
  for (const number of [1, 2, 3]) await came(`/js/batch/${number}`);
});

await scenario("keeps schedules", async () => {
  const scheduleId = "js-schedule";
  const destination = `${inbox}/js/tick?x=1`;
  const made = await client.schedules.create({ destination, cron: "0 0 1 1 *", scheduleId, body: "x", delay: 5, retries: 1 });
  assert.deepEqual(made, { scheduleId });
  await client.schedules.pause({ schedule: scheduleId });
  const seen = await client.schedules.get(scheduleId);
  assert.deepEqual(
    [seen.destination, seen.cron, seen.isPaused, seen.delay, seen.retries, seen.method, seen.body],
    [destination, "0 0 1 1 *", true, 5, 1, "POST", "x"],
  );
  await client.schedules.resume({ schedule: scheduleId });
  assert.deepEqual((await client.schedules.list()).map((one) => [one.scheduleId, one.isPaused]), [[scheduleId, false]]);
  await client.schedules.delete(scheduleId);
  await assert.rejects(client.schedules.get(scheduleId), refused(404));
  await assert.rejects(client.schedules.create({ destination, cron: "never" }), refused(400));
});

await scenario("retries, gives up, calls back, and retries from the DLQ", async () => {
  const failing = `${inbox}/js/failing`;
  const final = `${inbox}/js/final`;
  for (const body of ["1", "2", "3"]) {
    await client.publish({ url: failing, body, retries: 1, retryDelay: "1", label: "f", callback: `${inbox}/js/told`, failureCallback: `${inbox}/js/gave-up` });
  }
  await client.publish({ url: final, body: "never again" });
  const dlqMessages = await until(async () => {
    const { messages } = await client.dlq.listMessages();
    return messages.length === 4 && messages;
  });
  assert.equal((await came("/js/failing", 6)).length, 6);
  assert.equal((await came("/js/final")).length, 1);
  const told = (await came("/js/told", 6)).map((one) => JSON.parse(one.text));
  assert.deepEqual(told.map((one) => one.retried).sort(), [0, 0, 0, 1, 1, 1]);
  const ends = (await came("/js/gave-up", 3)).map((one) => JSON.parse(one.text));
  const ids = dlqMessages.filter((one) => one.url === failing).map((one) => one.dlqId);
  assert.deepEqual(ends.map((one) => one.dlqId).sort(), [...ids].sort());
  assert.equal(Buffer.from(ends[0].body, "base64").toString(), "no");

  const found = async (options) => (await client.dlq.listMessages(options)).messages.map((one) => one.url);
  assert.deepEqual(await found({ filter: { url: final, responseStatus: 489 } }), [final]);
  assert.deepEqual(await found({ filter: { responseStatus: [500, 489], label: ["f", "g"] } }), [failing, failing, failing]);
  assert.deepEqual(await found({ dlqIds: [ids[0]] }), [failing]);
  assert.deepEqual(await found({ filter: { fromDate: soon } }), []);
  const first = await client.dlq.listMessages({ count: 3 });
  assert.equal(first.messages.length, 3);
  const second = await client.dlq.listMessages({ count: 3, cursor: first.cursor });
  assert.deepEqual([second.messages.length, second.cursor], [1, undefined]);

  const { responses } = await client.dlq.retry(ids[0]);
  assert.equal(responses.length, 1);
  const again = await came("/js/failing", 8);
  const now = again.filter((one) => one.headers["upstash-message-id"] === responses[0].messageId);
  assert.deepEqual(now.map((one) => one.headers["upstash-retried"]), ["0", "1"]);
  await assert.rejects(client.dlq.retry([ids[0]]), refused(404));
  const single = await client.http.request({ method: "POST", path: ["v2", "dlq", "retry", ids[1]] });
  assert.ok(single.messageId);
  await until(async () => (await found()).length === 4);

  assert.deepEqual(await client.dlq.delete(ids[2]), { deleted: 1 });
  await assert.rejects(client.dlq.delete(ids[2]), refused(404));
  assert.deepEqual(await client.dlq.delete({ filter: { url: final } }), { deleted: 1 });
  let deleted = 0;
  let cursor;
  do {
    const result = await client.dlq.delete({ all: true, count: 1, cursor });
    deleted += result.deleted;
    cursor = result.cursor;
  } while (cursor);
  assert.equal(deleted, 2);
  assert.deepEqual(await found(), []);
});

await scenario("retries all dead dlqMessages in pages", async () => {
  for (const body of ["1", "2", "3"]) await client.publish({ url: `${inbox}/js/twice`, body, retries: 0 });
  await until(async () => (await client.dlq.listMessages()).messages.length === 3);
  const sent = [];
  let cursor;
  do {
    const result = await client.dlq.retry({ all: true, count: 2, cursor });
    sent.push(...result.responses);
    cursor = result.cursor;
  } while (cursor);
  assert.equal(sent.length, 3);
  await came("/js/twice", 6);
  assert.deepEqual((await client.dlq.listMessages()).messages, []);
});

await scenario("controls the flow", async () => {
  await client.flowControl.pause("js-key");
  const limits = { key: "js-key", parallelism: 2, rate: 5, period: 60 };
  for (const body of ["1", "2"]) await client.publish({ url: `${inbox}/js/held`, body, flowControl: limits });
  const held = await client.flowControl.get("js-key");
  assert.deepEqual(
    [held.flowControlKey, held.waitListSize, held.isPaused, held.parallelismMax, held.rateMax, held.ratePeriod],
    ["js-key", 2, true, 2, 5, 60],
  );
  await client.flowControl.pin("js-key", { parallelism: 1, rate: 7, period: 30 });
  const pinned = await client.flowControl.get("js-key");
  assert.deepEqual(
    [pinned.parallelismMax, pinned.rateMax, pinned.ratePeriod, pinned.isPinnedParallelism, pinned.isPinnedRate],
    [1, 7, 30, true, true],
  );
  await client.flowControl.unpin("js-key", { parallelism: true, rate: true });
  assert.equal((await client.flowControl.get("js-key")).isPinnedRate, false);
  await client.flowControl.resume("js-key");
  await came("/js/held", 2);
  await client.flowControl.resetRate("js-key");
  assert.equal((await client.flowControl.get("js-key")).rateCount, 0);
  const { parallelismMax, parallelismCount } = await client.flowControl.getGlobalParallelism();
  assert.ok(parallelismCount < parallelismMax);
});

await scenario("shows the logs in pages", async () => {
  const { messageId } = await client.publish({ url: `${inbox}/js/logged`, body: "x", label: "logged" });
  const states = async () =>
    (await client.logs({ filter: { label: "logged" } })).logs.map((one) => one.state).reverse();
  await until(async () => (await states()).at(-1) === "DELIVERED");
  assert.deepEqual(await states(), ["CREATED", "ACTIVE", "DELIVERED"]);
  assert.equal((await client.logs({ messageIds: [messageId] })).logs.length, 3);
  assert.equal((await client.events({ filter: { state: "CREATED", label: "logged" } })).events.length, 1);
  const filter = { toDate: Date.now() - 1 }; // what is not over yet adds to no such log
  const whole = (await client.logs({ filter })).logs;
  const pages = [];
  let cursor;
  do {
    const page = await client.logs({ filter, count: 20, cursor });
    pages.push(...page.logs);
    cursor = page.cursor;
  } while (cursor);
  assert.deepEqual(pages, whole);
  assert.ok(whole.length > 40);
});

await scenario("rotates the keys", async () => {
  const keys = (path, method) => client.http.request({ method, path: ["v2", ...path] });
  const before = await keys(["keys"], "GET");
  const after = await keys(["keys", "rotate"], "POST");
  assert.equal(after.current, before.next);
  await client.publish({ url: `${inbox}/js/rotated`, body: "x" });
  const [one] = await came("/js/rotated");
  const stranger = new Receiver({ currentSigningKey: before.current, nextSigningKey: before.current, devMode: false });
  await assert.rejects(stranger.verify({ signature: one.headers["upstash-signature"], body: one.text }));
});

await scenario("refuses another token", async () => {
  const stranger = new Client({ baseUrl: url, token: "wrong", retry: false, devMode: false });
  await assert.rejects(stranger.publish({ url: inbox }), refused(401));
});

console.log(JSON.stringify(scenarios));
