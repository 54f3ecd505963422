//! axum and redis-rs on one thread: verifies the same tokens, appends each delivery with an XADD and
//! then answers. All requests share one connection, which sends what waits together. No log lines.

mod verify;

use std::{
    env,
    error::Error,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
    serve::ListenerExt,
};
use redis::{AsyncCommands, Client, RedisResult, aio::MultiplexedConnection};
use tokio::net::TcpListener;

use verify::Verifier;

const BODY_LIMIT: usize = 10 << 20;
const STREAM: &str = "deliveries";

struct Receiver {
    verifier: Verifier,
    redis: MultiplexedConnection,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::open(env::var("REDIS_URL")?)?;
    let receiver = Receiver {
        verifier: Verifier::new(env::var("QSTASH_CURRENT_SIGNING_KEY")?.as_bytes())?,
        redis: client.get_multiplexed_async_connection().await?,
    };
    let app = Router::new()
        .route("/qstash", post(receive))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::new(receiver));
    let address = format!("127.0.0.1:{}", env::var("PORT")?);
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        let _ = stream.set_nodelay(true); // it is slower without, and works
    });
    axum::serve(listener, app).await?;
    Ok(())
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let token = text_of(&headers, "upstash-signature");
    if !receiver.verifier.is_genuine(token, &body, now()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let id = text_of(&headers, "upstash-message-id");
    match append(receiver.redis.clone(), id, &body).await {
        Ok(_) => StatusCode::OK.into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "5")]).into_response(),
    }
}

async fn append(mut redis: MultiplexedConnection, id: &str, body: &[u8]) -> RedisResult<String> {
    redis
        .xadd(STREAM, "*", &[("id", id.as_bytes()), ("body", body)])
        .await
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
