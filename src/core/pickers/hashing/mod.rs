//! Consistent hashing: the same key goes to the same endpoint, and few keys move when endpoints come and go.

pub mod bounded;
mod circle;
pub mod haproxy;
pub mod ip_hash;
pub mod jump;
pub mod maglev;
pub mod memento;
pub mod modulo;
pub mod multi_probe;
pub mod nginx;
pub mod nginx_ring;
pub mod rendezvous;
pub mod ring;
mod units;
pub mod variants;

use std::net::IpAddr;

/// What a key may be.
pub(super) const ANYTHING: &str = "str, bytes, an int from -2**63 to 2**64-1, or Hashed";

/// What a key may be where it is an address.
const ADDRESSES: &str =
    "an IPv4 or IPv6 address: a str such as \"192.0.2.1\", its 4 or 16 bytes, or an int below 2**32 for IPv4";

/// An address from its bytes in network order.
fn packed_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}
