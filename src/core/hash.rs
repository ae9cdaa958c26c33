//! Hashes of keys, by name. A key is bytes; the caller's own hash function is never used.

use xxhash_rust::xxh64::xxh64 as xxh64_seeded;

/// XXH64 with seed 0: the key hash of Envoy's hash policies, and the default here.
#[inline]
#[must_use]
pub fn xxh64(bytes: &[u8]) -> u64 {
    xxh64_seeded(bytes, 0)
}

/// XXH64 with a seed.
#[inline]
#[must_use]
pub fn xxh64_with_seed(bytes: &[u8], seed: u64) -> u64 {
    xxh64_seeded(bytes, seed)
}

/// The key hash of a whole number: XXH64 of its 8 little-endian bytes.
#[inline]
#[must_use]
pub fn of_u64(key: u64) -> u64 {
    xxh64(&key.to_le_bytes())
}

/// One header of an Envoy hash policy that occurs several times: its values sorted, each hashed with the hash so far
/// as seed (Envoy 1.40).
#[must_use]
pub fn envoy_header(values: &mut [&[u8]]) -> u64 {
    values.sort_unstable();
    values.iter().fold(0, |seed, value| xxh64_seeded(value, seed))
}

/// Adds the hash of the next policy to the hash of those before (Envoy 1.40).
#[must_use]
pub fn envoy_combine(so_far: u64, next: u64) -> u64 {
    so_far.rotate_left(1) ^ next
}

/// MurmurHash64A (Austin Appleby, public domain), reading words in little-endian order.
#[must_use]
pub fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut h = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let k = word.iter().rev().fold(0u64, |k, &b| (k << 8) | u64::from(b)).wrapping_mul(M);
        h = (h ^ (k ^ (k >> 47)).wrapping_mul(M)).wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        let k = tail.iter().rev().fold(0u64, |k, &b| (k << 8) | u64::from(b));
        h = (h ^ k).wrapping_mul(M);
    }
    h = (h ^ (h >> 47)).wrapping_mul(M);
    h ^ (h >> 47)
}

/// The seed that Envoy's MURMUR_HASH_2 takes from libstdc++.
pub const ENVOY_MURMUR_SEED: u64 = 0xc70f_6907;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh64_of_nothing_is_the_published_value() {
        assert_eq!(xxh64(b""), 0xef46_db37_51d8_e999);
    }

    #[test]
    fn murmur_matches_the_ring_of_envoys_own_test() {
        // First and last points of the six-host ring that Envoy's unit test lists.
        let at = |text: &str| murmur64a(text.as_bytes(), ENVOY_MURMUR_SEED);
        let mut points: Vec<(u64, u16)> =
            (80..86).flat_map(|port| (0..2).map(move |i| (at(&format!("127.0.0.1:{port}_{i}")), port))).collect();
        points.sort_unstable();
        assert_eq!(points.first(), Some(&(1_358_027_074_129_602_068, 85)));
        assert_eq!(points.last(), Some(&(17_613_279_263_364_193_813, 80)));
    }
}
