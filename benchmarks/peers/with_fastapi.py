"""The usual Python stack: FastAPI on uvicorn (uvloop, httptools), PyJWT, redis-py, an XADD for
each request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os

import jwt
import redis.asyncio
import uvicorn
from fastapi import FastAPI, HTTPException, Request

KEY = os.environ["QSTASH_CURRENT_SIGNING_KEY"]
app = FastAPI()
client = redis.asyncio.Redis.from_url(os.environ["REDIS_URL"])


@app.post("/qstash")
async def receive(request: Request) -> dict[str, str]:
    body = await request.body()
    try:
        claims = jwt.decode(
            request.headers["upstash-signature"], KEY, algorithms=["HS256"], issuer="Upstash"
        )
    except (KeyError, jwt.InvalidTokenError):
        raise HTTPException(401) from None
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest())
    if not hmac.compare_digest(digest.rstrip(b"="), claims["body"].encode().rstrip(b"=")):
        raise HTTPException(401)
    fields: dict[bytes | str, bytes | str] = {
        "id": request.headers["upstash-message-id"],
        "body": body,
    }
    await client.xadd("deliveries", fields)  # type: ignore[arg-type] # dict is invariant
    return {"status": "accepted"}


uvicorn.run(
    app, host="127.0.0.1", port=int(os.environ["PORT"]), loop="uvloop", http="httptools",
    access_log=False, log_level="warning",
)  # fmt: skip
