//! QStash's signature: a JWT (HS256) that has the hash of the body among its claims.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac, digest::InvalidLength};
use serde::Deserialize;
use sha2::{Digest, Sha256};

#[derive(Deserialize)]
struct Head<'a> {
    alg: &'a str,
}

#[derive(Deserialize)]
struct Claims<'a> {
    iss: &'a str,
    nbf: u64,
    exp: u64,
    body: &'a str,
}

/// Judges tokens with one signing key.
pub struct Verifier {
    keyed: Hmac<Sha256>,
}

impl Verifier {
    pub fn new(key: &[u8]) -> Result<Self, InvalidLength> {
        Ok(Self {
            keyed: Hmac::new_from_slice(key)?,
        })
    }

    /// Tells whether the token is valid now, and stands for this body.
    pub fn is_genuine(&self, token: &str, body: &[u8], now: u64) -> bool {
        self.signed_part(token)
            .is_some_and(|claims| holds(&claims, body, now))
    }

    /// Returns the claims as JSON if the signature is right.
    fn signed_part(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let mut mac = self.keyed.clone();
        mac.update(signed.as_bytes());
        mac.verify_slice(&decoded(signature)?).ok()?;
        let head = decoded(head)?;
        let head: Head = serde_json::from_slice(&head).ok()?;
        (head.alg == "HS256").then(|| decoded(claims))?
    }
}

fn holds(claims: &[u8], body: &[u8], now: u64) -> bool {
    let Ok(claims) = serde_json::from_slice::<Claims>(claims) else {
        return false;
    };
    let is_in_time = claims.nbf <= now && now < claims.exp;
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(body));
    claims.iss == "Upstash" && is_in_time && claims.body.trim_end_matches('=') == hash
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
