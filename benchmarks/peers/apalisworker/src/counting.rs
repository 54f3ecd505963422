//! counting.py in Rust: the measured event, and the count and time of handler calls.

use std::{
    env, fs, io,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use serde_json::json;

const NOTE_BYTES: usize = 135; // so that an event as JSON has 214 bytes

#[derive(Clone, Serialize, Deserialize)]
pub struct Order {
    r#type: String,
    order_id: String,
    amount: u32,
    note: String,
}

impl Order {
    pub fn new(number: usize) -> Self {
        Self {
            r#type: "order.paid".to_owned(),
            order_id: format!("ord_{number:012}"),
            amount: 4200,
            note: "x".repeat(NOTE_BYTES),
        }
    }
}

struct Begun {
    calls: usize,
    at: Instant,
    cpu_seconds: f64,
}

/// Counts handler calls and writes the time that they took. The time starts with the first call, so
/// that the start of the process is not measured.
pub struct Counter {
    messages: usize,
    begun: Mutex<Option<Begun>>,
}

impl Counter {
    pub fn new() -> Self {
        Self {
            messages: number("BENCH_MESSAGES"),
            begun: Mutex::new(None),
        }
    }

    pub fn count(&self) -> io::Result<()> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.is_none() {
            *begun = Some(Begun {
                calls: 0,
                at: Instant::now(),
                cpu_seconds: cpu_seconds()?,
            });
        }
        if let Some(begun) = begun.as_mut() {
            begun.calls += 1;
            if begun.calls == self.messages {
                write(begun)?;
            }
        }
        Ok(())
    }
}

fn write(begun: &Begun) -> io::Result<()> {
    let result = json!({
        "messages": begun.calls,
        "seconds": begun.at.elapsed().as_secs_f64(),
        "cpu_seconds": cpu_seconds()? - begun.cpu_seconds,
    });
    let path = env::var("BENCH_RESULT").map_err(io::Error::other)?;
    let part = format!("{path}.part");
    fs::write(&part, result.to_string())?;
    fs::rename(part, path)
}

/// Returns the CPU time of the only thread, which Linux gives in nanoseconds.
fn cpu_seconds() -> io::Result<f64> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let nanoseconds = text.split(' ').next().unwrap_or_default();
    let nanoseconds: f64 = nanoseconds.parse().map_err(io::Error::other)?;
    Ok(nanoseconds / 1e9)
}

pub fn number(name: &str) -> usize {
    let given = env::var(name).ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(1)
}
