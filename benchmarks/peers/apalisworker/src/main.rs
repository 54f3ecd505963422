//! apalis on Redis, on one thread of tokio. Events are not published. It keeps the results, because it
//! acknowledges nothing otherwise.

mod counting;

use std::{env, error::Error, sync::Arc};

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};

use counting::{Counter, Order, number};

const BATCH: usize = 100;
const CHUNK: usize = 500;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let connection = apalis_redis::connect(env::var("REDIS_URL")?).await?;
    let config = Config::default()
        .queue("orders")
        .batch_size(BATCH)
        .emit_events(false);
    let storage = RedisStorage::new(connection).with_config(config);
    if env::args().nth(1).as_deref() == Some("fill") {
        fill(storage).await
    } else {
        work(storage).await
    }
}

async fn fill(mut storage: RedisStorage<Order>) -> Result<(), Box<dyn Error>> {
    let orders: Vec<Order> = (0..number("BENCH_MESSAGES")).map(Order::new).collect();
    for some in orders.chunks(CHUNK) {
        storage.push_bulk(some.to_vec()).await?;
    }
    Ok(())
}

async fn work(storage: RedisStorage<Order>) -> Result<(), Box<dyn Error>> {
    WorkerBuilder::new("one")
        .backend(storage)
        .concurrency(number("BENCH_CONCURRENCY"))
        .data(Arc::new(Counter::new()))
        .build(handle)
        .run()
        .await?;
    Ok(())
}

async fn handle(_: Order, counter: Data<Arc<Counter>>) -> Result<(), BoxDynError> {
    counter.count()?;
    Ok(())
}
